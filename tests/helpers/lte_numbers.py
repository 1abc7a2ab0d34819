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
    "lte": (lte(ENCODER, 20, [64, 64]), 8),
    "lte-fast": (ltep(ENCODER, 64, 2), 4),
    "lte-fast, features twice the image": (ltep(LARGER, 20, 1), 4),
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
    """Some colours; of each part's gradient its norm, and its product with a random vector."""
    model = model.to(dtype)
    model.zero_grad()
    out = model(*problem(name, size, dtype))
    (out.flatten() * directions(out.numel()).to(dtype)).sum().backward()
    found = {"colours": out.detach().flatten()[:: out.numel() // 6][:6].tolist()}
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
lte: 3.359358569639081
  50x41 float32 colours 0.74579072 0.422385871 0.603526115 0.139223829 -0.678836644 -0.248765126
  50x41 float32 encoder 3.02536492 1.82912702
  50x41 float32 coef 3.36681527 2.53807703
  50x41 float32 freq 2.63516326 -0.828936476
  50x41 float32 phase 0.571473891 -0.0113399573
  50x41 float32 imnet 22.6588606 -20.1003986
  50x41 float64 colours 0.7457905970767937 0.4223860251837288 0.6035261954159925 0.1392234518498884 -0.6788366524201637 -0.2487643123185168
  50x41 float64 encoder 3.025363942830737 1.829128960951327
  50x41 float64 coef 3.366814502711668 2.538083755313639
  50x41 float64 freq 2.635161843677946 -0.8289285908205297
  50x41 float64 phase 0.5714739871449587 -0.01133999551049925
  50x41 float64 imnet 22.65886011422014 -20.10038927583969
  3x5 float32 colours -0.0698019117 0.488785028 0.0960332006 0.445224315 -0.325446099 -0.677807927
  3x5 float32 encoder 1.96381595 0.596254521
  3x5 float32 coef 2.77660266 1.56866734
  3x5 float32 freq 1.32905846 0.525825925
  3x5 float32 phase 0.53406191 0.249127277
  3x5 float32 imnet 23.2251817 -24.3651454
  3x5 float64 colours -0.06980191661107679 0.4887849631867148 0.09603319193303378 0.4452243305894397 -0.3254460853404262 -0.6778078988514917
  3x5 float64 encoder 1.963815948250023 0.5962547209083959
  3x5 float64 coef 2.77660271266456 1.568666531903188
  3x5 float64 freq 1.329058342442606 0.5258258647051995
  3x5 float64 phase 0.534061921520268 0.2491271638075902
  3x5 float64 imnet 23.22518367206895 -24.36514943549981
lte-fast: -9.308376070716902
  50x41 float32 colours 0.52445966 -0.344321072 -0.274015546 -0.0185364131 -0.380181462 -0.0713776201
  50x41 float32 encoder 2.56313876 1.27627986
  50x41 float32 coef 2.67840506 1.2998341
  50x41 float32 freq 2.12642185 0.67610221
  50x41 float32 phase 0.415048211 -0.221306377
  50x41 float32 layers 18.8588535 0.227677284
  50x41 float64 colours 0.5244596404518287 -0.3443209391226075 -0.2740155700148778 -0.01853674229878576 -0.3801806114508903 -0.07137812969334437
  50x41 float64 encoder 2.563138207838104 1.276292497460455
  50x41 float64 coef 2.678405995009334 1.299837825739535
  50x41 float64 freq 2.126421601211459 0.676106961208802
  50x41 float64 phase 0.415048866705234 -0.2213061812876375
  50x41 float64 layers 18.85885147564559 0.2276763494732997
  3x5 float32 colours -0.25120163 0.147915766 0.515030682 0.277835995 -0.135453552 0.161101341
  3x5 float32 encoder 1.2479694 -0.166119263
  3x5 float32 coef 1.81295591 -1.53727552
  3x5 float32 freq 0.772400168 0.0967046691
  3x5 float32 phase 0.366484644 0.0253584836
  3x5 float32 layers 18.642932 -3.82434343
  3x5 float64 colours -0.2512016250850325 0.1479157473020137 0.5150307122918276 0.2778360117076856 -0.1354535927933097 0.1611013150877601
  3x5 float64 encoder 1.247969371053213 -0.1661187825929186
  3x5 float64 coef 1.812955875702568 -1.537275263249249
  3x5 float64 freq 0.7724001302976724 0.09670472839087421
  3x5 float64 phase 0.3664846395062839 0.02535853532016711
  3x5 float64 layers 18.64293116931237 -3.824343663159016
lte-fast, features twice the image: 11.54139292276256
  50x41 float32 colours 0.647742748 -0.457927108 0.0261219442 0.170097202 -0.527480543 0.222693294
  50x41 float32 encoder 4.89250207 1.1024579
  50x41 float32 coef 2.98754841 -2.81631642
  50x41 float32 freq 1.24712105 1.34736784
  50x41 float32 phase 1.38464566 -0.943730841
  50x41 float32 layers 19.4206999 -9.00180906
  50x41 float64 colours 0.6477426075123154 -0.4579271139222285 0.02612193439091307 0.1700967889593574 -0.5274797255761646 0.2226928310400495
  50x41 float64 encoder 4.892501776576365 1.102456038899494
  50x41 float64 coef 2.987550986597964 -2.816309832979658
  50x41 float64 freq 1.247119981283266 1.347366249019139
  50x41 float64 phase 1.384644332453375 -0.9437306055751549
  50x41 float64 layers 19.42069826457568 -9.001794877704391
  3x5 float32 colours -0.109538585 0.0129490066 0.793652475 0.451884359 -0.246424794 0.420116007
  3x5 float32 encoder 2.43976247 0.335683063
  3x5 float32 coef 2.46273664 0.703905953
  3x5 float32 freq 0.549514962 -0.0800439807
  3x5 float32 phase 1.99617155 -1.71713088
  3x5 float32 layers 19.2271342 -10.9242901
  3x5 float64 colours -0.1095385923443416 0.01294899931914916 0.7936525033282055 0.4518843857797623 -0.2464248316609498 0.4201159946159279
  3x5 float64 encoder 2.439762229256227 0.3356835647507703
  3x5 float64 coef 2.462736456686668 0.7039055632437853
  3x5 float64 freq 0.5495151213637728 -0.08004381683172031
  3x5 float64 phase 1.996171380557942 -1.717130242405897
  3x5 float64 layers 19.22713356761132 -10.92429021933071
EDSR-baseline-LTE: 22.68998180894718
  50x41 float32 colours 0.560122669 0.270037711 0.433238596 -0.00419594022 -0.826541483 -0.403512776
  50x41 float64 colours 0.5601225884646336 0.2700378456641304 0.4332385586948935 -0.004196253931313986 -0.8265415049236983 -0.4035120010356968
  50x41 float64 encoder 4.145861147383486 1.124785123105911
  50x41 float64 coef 2.919019262815535 -1.996197056454034
  50x41 float64 freq 2.408345925356099 -1.938717114183555
  50x41 float64 phase 0.2095906011049136 0.06094993063218421
  50x41 float64 imnet 22.20057948092697 -2.00048152456946
  3x5 float32 colours -0.238685861 0.33936581 -0.0703181028 0.287505835 -0.487045288 -0.828919649
  3x5 float64 colours -0.2386858567462576 0.3393657471504707 -0.07031810417315329 0.2875058471177117 -0.4870452560894197 -0.8289196573869915
  3x5 float64 encoder 1.661152990388118 -1.461918429843712
  3x5 float64 coef 1.777433914922468 0.6153080573540956
  3x5 float64 freq 0.7925996197606645 0.4310078292784536
  3x5 float64 phase 0.1591226971262514 -0.002610497516250389
  3x5 float64 imnet 21.60359588654356 0.8388096901442025
"""
