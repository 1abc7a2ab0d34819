"""What the official LTE and LTEP give on small problems: colours, and gradients seen along a random direction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 2, "n_feats": 16, "no_upsampling": True}}
LARGER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "scale": 2}}  # features twice the image


def lte(encoder, hidden_dim, hidden_list):
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden_list}}
    return {"name": "lte", "args": {"encoder_spec": encoder, "imnet_spec": imnet, "hidden_dim": hidden_dim}}


def ltep(encoder, hidden_dim, num_layer):
    return {"name": "lte-fast", "args": {"encoder_spec": encoder, "num_layer": num_layer, "hidden_dim": hidden_dim}}


FULL = {"name": "edsr-baseline", "args": {"no_upsampling": True}}
# spec, and the seed of its weights: one with which no activation is so near 0 that a rounding decides its gradient
MODELS = {
    "lte": (lte(ENCODER, 20, [64, 64]), 13),
    "lte-fast": (ltep(ENCODER, 64, 2), 13),
    "lte-fast, features twice the image": (ltep(LARGER, 20, 1), 8),
    "EDSR-baseline-LTE": (lte(FULL, 256, [256, 256, 256]), 3),
}
SIZES = ((50, 41), (3, 5))
F32 = torch.float32
PARTS = ("encoder", "coef", "freq", "phase", "imnet", "layers")


def built(make, name: str) -> nn.Module:
    """By ``make``, with the weights that its layers draw."""
    spec, seed = MODELS[name]
    torch.manual_seed(seed)
    return make(spec)


def checksum(model: nn.Module) -> float:
    """Of all weights, in their order."""
    numbers = torch.cat([t.double().flatten() for t in model.state_dict().values()])
    return (numbers * torch.linspace(1, 2, len(numbers), dtype=torch.float64)).sum().item()


def problem(name: str, size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, 12 x 10 coordinates each, some beyond the image's border, and cells, as the official class takes
    them."""
    fast = MODELS[name][0]["name"] == "lte-fast"
    drawn = torch.Generator().manual_seed(7)
    inp = torch.rand(2, 3, *size, generator=drawn, dtype=F32) * 2 - 1
    coord = torch.rand(2, 12, 10, 2, generator=drawn, dtype=F32) * 2.1 - 1.05
    cell = torch.rand(2, 1, 1, 2, generator=drawn, dtype=F32) / size[0]
    coord, cell = (coord, cell[:, 0, 0]) if fast else (coord.flatten(1, 2), cell.expand_as(coord).flatten(1, 2))
    return inp.to(dtype), coord.to(dtype), cell.to(dtype)


def directions(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(8), dtype=F32) * 2 - 1


def summary(model: nn.Module, name: str, size: tuple[int, int], dtype: torch.dtype) -> dict[str, list[float]]:
    """Four colours; of all colours and of each part's gradient the norm, and the product with a random vector."""
    model = model.to(dtype)
    model.zero_grad()
    out = model(*problem(name, size, dtype))
    (out.flatten() * directions(out.numel()).to(dtype)).sum().backward()
    found = {"all": [out.norm().item(), (out.flatten() * directions(out.numel())).sum().item()]}
    found["colours"] = out.detach().flatten()[:: out.numel() // 4][:4].tolist()
    for part in PARTS:
        inner = getattr(model, part, None)
        grads = [] if inner is None else [p.grad.double().flatten() for p in inner.parameters() if p.grad is not None]
        if grads:
            g = torch.cat(grads)
            found[part] = [g.norm().item(), (g * directions(len(g))).sum().item()]
    return found


def stored() -> tuple[dict[str, float], dict[tuple[str, str, str], dict[str, list[float]]]]:
    """checksum of each model; of (model, size, dtype) what ``summary`` gives. Of the full size in float32 the colours
    alone: among its 800,000 activations some are always near 0."""
    checksums, found, name = {}, {}, ""
    for line in NUMBERS.strip().splitlines():
        if not line.startswith(" "):
            name, number = line.split(": ")
            checksums[name] = float(number)
            continue
        size, dtype, part, *numbers = line.split()
        found.setdefault((name, size, dtype), {})[part] = [float(n) for n in numbers]
    return checksums, found


# of the official repository's models/lte.py and ltep.py, on a CPU; for float64 its make_coord in float64
NUMBERS = """
lte: 10.45178108301391
  50x41 float32 all 10.8572884 -9.30880165
  50x41 float32 colours 0.587308824 0.573174715 0.0124953957 -0.447464466
  50x41 float32 encoder 2.69864137 -1.67604677
  50x41 float32 coef 3.22594475 -0.582644587
  50x41 float32 freq 2.31104393 -1.63727704
  50x41 float32 phase 0.583223607 -0.297664502
  50x41 float32 imnet 22.0869558 -10.2202302
  50x41 float64 all 10.85728643959923 -9.308799220631162
  50x41 float64 colours 0.5873087770880898 0.5731740893744484 0.01249505612038526 -0.4474645941311633
  50x41 float64 encoder 2.698641357128035 -1.67605103304283
  50x41 float64 coef 3.225942846887645 -0.582648584339726
  50x41 float64 freq 2.311043457494144 -1.637276819244039
  50x41 float64 phase 0.5832236441610688 -0.2976654514309531
  50x41 float64 imnet 22.08695585181131 -10.22023429737912
  3x5 float32 all 10.7387562 2.26549339
  3x5 float32 colours -0.213546544 0.0047447728 0.307632506 0.394525826
  3x5 float32 encoder 1.60826863 -0.04647098
  3x5 float32 coef 2.49466164 -1.28668767
  3x5 float32 freq 0.877824793 0.494058452
  3x5 float32 phase 0.415313789 0.103941434
  3x5 float32 imnet 21.8917095 -10.5634872
  3x5 float64 all 10.73875680072833 2.265492817461626
  3x5 float64 colours -0.2135465410726337 0.004744709878843633 0.3076325430085493 0.3945258015280431
  3x5 float64 encoder 1.608268575216996 -0.04647092624593374
  3x5 float64 coef 2.494661534610615 -1.286687617983665
  3x5 float64 freq 0.8778247533923078 0.4940584836821797
  3x5 float64 phase 0.4153136763682949 0.1039413459884253
  3x5 float64 imnet 21.89171168053251 -10.56348835292374
lte-fast: 23.28343079658939
  50x41 float32 all 10.9756975 1.14097857
  50x41 float32 colours 0.615245581 0.0506314337 0.0622800924 -0.550898075
  50x41 float32 encoder 3.06790756 0.243985494
  50x41 float32 coef 3.38853951 -2.444564
  50x41 float32 freq 2.57006718 -0.5458817
  50x41 float32 phase 0.609118822 -0.262727
  50x41 float32 layers 19.5596951 -13.9004272
  50x41 float64 all 10.97569619068988 1.140982056253486
  50x41 float64 colours 0.6152455266724132 0.05063180673957852 0.06227981687825791 -0.5508980925647801
  50x41 float64 encoder 3.067906922735702 0.2439880706510004
  50x41 float64 coef 3.388540046880079 -2.444564117773867
  50x41 float64 freq 2.570066845134141 -0.545867918823867
  50x41 float64 phase 0.609119119658092 -0.2627288741980737
  50x41 float64 layers 19.55969338900178 -13.90043686086977
  3x5 float32 all 10.6410685 -4.64811373
  3x5 float32 colours -0.169503659 0.573661208 0.359373957 -0.0104415566
  3x5 float32 encoder 1.55501394 1.30785578
  3x5 float32 coef 2.37606726 -0.548602786
  3x5 float32 freq 1.00178383 -0.10989514
  3x5 float32 phase 0.518842552 -0.359451439
  3x5 float32 layers 19.5089479 -12.958796
  3x5 float64 all 10.64106871387094 -4.648114957703843
  3x5 float64 colours -0.1695036587735816 0.5736613136748627 0.3593739784789023 -0.01044154152113663
  3x5 float64 encoder 1.555013925857339 1.307856394902298
  3x5 float64 coef 2.376067233141907 -0.5486026185606268
  3x5 float64 freq 1.001783785119713 -0.1098949390456475
  3x5 float64 phase 0.5188425573378735 -0.359451327547521
  3x5 float64 layers 19.50894715390089 -12.95879506065474
lte-fast, features twice the image: 19.69358103512692
  50x41 float32 all 11.7050581 -3.88480425
  50x41 float32 colours 0.741246819 -0.0844187737 0.161252856 -0.685364306
  50x41 float32 encoder 5.18436561 0.165646483
  50x41 float32 coef 3.02577672 -1.99001721
  50x41 float32 freq 1.21577429 -0.601761985
  50x41 float32 phase 1.34702839 -0.23815621
  50x41 float32 layers 18.4423501 -10.6099144
  50x41 float64 all 11.70505590579589 -3.88480125248319
  50x41 float64 colours 0.741246656522025 -0.08441838789819689 0.1612524386421137 -0.6853643438209133
  50x41 float64 encoder 5.184362451428066 0.1656769310514887
  50x41 float64 coef 3.025778565754641 -1.990020360404045
  50x41 float64 freq 1.215774406402512 -0.6017646680539218
  50x41 float64 phase 1.347026855082053 -0.2381554756675117
  50x41 float64 layers 18.44234982482098 -10.60990823344421
  3x5 float32 all 12.1508284 -8.52068233
  3x5 float32 colours -0.0686333925 0.43290627 0.50953722 -0.111071527
  3x5 float32 encoder 2.86548827 2.35796067
  3x5 float32 coef 2.69376155 0.16040561
  3x5 float32 freq 0.603621011 0.154301866
  3x5 float32 phase 2.02986282 1.27498903
  3x5 float32 layers 18.5817517 -11.1322036
  3x5 float64 all 12.15082882726708 -8.520681764544637
  3x5 float64 colours -0.06863339936917551 0.4329063032583622 0.5095372834326592 -0.1110714960451843
  3x5 float64 encoder 2.86548802094648 2.357960426990024
  3x5 float64 coef 2.693761318956411 0.1604055125928395
  3x5 float64 freq 0.6036211053569659 0.1543018593641586
  3x5 float64 phase 2.029862777536211 1.274989158745371
  3x5 float64 layers 18.58175134168755 -11.13220216940175
EDSR-baseline-LTE: 22.68998180894718
  50x41 float32 all 10.8475046 -9.93050289
  50x41 float32 colours 0.560122669 0.547489762 -0.00419594022 -0.478141129
  50x41 float64 all 10.84750351003151 -9.930500267628398
  50x41 float64 colours 0.5601225884646336 0.5474891529392639 -0.004196253931313986 -0.478141264667598
  50x41 float64 encoder 4.145861147383486 1.124785123105911
  50x41 float64 coef 2.919019262815535 -1.996197056454034
  50x41 float64 freq 2.408345925356099 -1.938717114183555
  50x41 float64 phase 0.2095906011049136 0.06094993063218421
  50x41 float64 imnet 22.20057948092697 -2.00048152456946
  3x5 float32 all 10.365798 1.56048179
  3x5 float32 colours -0.238685861 -0.0254194923 0.287505835 0.377408177
  3x5 float64 all 10.36579797214992 1.560480618789771
  3x5 float64 colours -0.2386858567462576 -0.02541955945569951 0.2875058471177117 0.3774081667230209
  3x5 float64 encoder 1.661152990388118 -1.461918429843712
  3x5 float64 coef 1.777433914922468 0.6153080573540956
  3x5 float64 freq 0.7925996197606645 0.4310078292784536
  3x5 float64 phase 0.1591226971262514 -0.002610497516250389
  3x5 float64 imnet 21.60359588654356 0.8388096901442025
"""
