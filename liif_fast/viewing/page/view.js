// The page of `liif-fast view`. A photo of W x H pixels at scale s is a lattice of extent(W) x extent(H) pixels; the
// canvas shows the part of it whose top left pixel is (view.x, view.y), one lattice pixel on one pixel of the screen.

const SIDE = 384; // largest side of a tile
const LEAST = 96; // smallest, but for the picture's border: the view may grow later
const KEPT = 96 * 2 ** 20; // bytes of tiles that are kept
const FLIGHTS = 6; // tiles under way: a browser opens no more connections to one place
const MOST_ALIKE = 4; // of them of models, and of quick ones: neither waits behind the other
const STEPS = 64; // scales in an octave
const FADE = 80; // ms in which a tile appears
const NEAR = 4; // times a scale
const REST = { zoom: 60, strip: 120, psnr: 300 }; // ms of quiet before anything is asked for
const AGAIN = { dropped: 100, failed: 5000 }; // ms before a tile is asked for once more
const MOST_SAVED = 2 ** 26; // pixels
const LONGEST_SAVED = 2 ** 16; // side
const QUICK = new Set(["bicubic", "nearest", "truth"]); // no other method needs to stand in for them

const $ = (id) => document.getElementById(id);
const clamp = (n, low, high) => Math.min(Math.max(n, low), high);
const stage = $("stage");
const canvas = $("canvas");
const pen = canvas.getContext("2d");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let methods = []; // [{name, kind, note}]
let names = []; // of the photos
let bicubic = -1; // its place among the methods
let largest = 1024; // scale
let photo = null; // {width, height, notes, truth} of the one that is shown
const view = { photo: 0, left: 0, right: 0, scale: 1, level: 0, x: 0, y: 0, split: 0.5, fit: true };
const pane = { width: 0, height: 0, ratio: 1 }; // the canvas in its own pixels, and how many are one of CSS
const stats = { asked: 0, got: 0, aborted: 0, pixels: 0 };

// ---- Geometry

const extent = (n) => Math.max(1, Math.floor(n * view.scale + 1e-6));
const columns = () => extent(photo.width);
const rows = () => extent(photo.height);

function fitting() {
  const whole = Math.min(pane.width / photo.width, pane.height / photo.height);
  return clamp(whole, 1 / Math.min(photo.width, photo.height), largest);
}

// What of the lattice is on the canvas.
function visible() {
  const [x, y] = [Math.max(view.x, 0), Math.max(view.y, 0)];
  const [right, bottom] = [Math.min(view.x + pane.width, columns()), Math.min(view.y + pane.height, rows())];
  return { x, y, width: right - x, height: bottom - y };
}

// An origin that keeps the picture in view: in the middle where it is smaller than the canvas. (|| 0: not -0)
function bounded(origin, n, room) {
  return n <= room ? Math.ceil((n - room) / 2) || 0 : clamp(Math.round(origin), 0, n - room);
}

function place(x, y) {
  view.x = bounded(x, columns(), pane.width);
  view.y = bounded(y, rows(), pane.height);
}

// ---- Moving

// The photo's point that zooms keep under the pointer: taken once, so that rounding does not add up.
let anchor = null;

// To a scale of 2^level, or exactly a given one; the photo's point at (x, y) of the canvas stays.
function zoom(level, x, y, exact) {
  if (!photo || !pane.width) return;
  const [fit, least] = [fitting(), Math.min(fitting(), 1)];
  view.level = exact ? Math.log2(exact) : clamp(level, Math.log2(least), Math.log2(largest));
  const grid = 2 ** (Math.round(view.level * STEPS) / STEPS);
  const scale = exact ?? (view.level <= Math.log2(least) ? least : clamp(grid, least, largest));
  if (anchor?.x !== x || anchor?.y !== y)
    anchor = { x, y, u: (view.x + x) / view.scale, v: (view.y + y) / view.scale };
  const other = scale !== view.scale;
  view.scale = scale;
  view.fit = scale === fit;
  const [left, top] = [anchor.u * scale - x, anchor.v * scale - y];
  place(left, top);
  if (Math.abs(view.x - left) > 0.5) anchor.u = (view.x + x) / scale; // stopped at a border
  if (Math.abs(view.y - top) > 0.5) anchor.v = (view.y + y) / scale;
  if (other) rest();
  changed();
}

function moveTo(x, y) {
  if (!photo) return;
  anchor = null;
  place(x, y);
  changed();
}

function zoomBy(octaves, at = middle()) {
  zoom(view.level + octaves, at.x, at.y);
}

function fit() {
  if (photo) zoom(0, ...Object.values(middle()), fitting());
}

function swap() {
  [view.left, view.right] = [view.right, view.left];
  showMethods();
  changed();
}

function divide(split) {
  view.split = clamp(split, 0, 1);
  changed();
}

// Scales that pass by are not asked for.
let resting = 0;
function rest() {
  clearTimeout(resting);
  resting = setTimeout(() => {
    resting = 0;
    changed();
    pump();
  }, REST.zoom);
}

function changed() {
  failed.clear();
  if (said && !trouble) say("");
  schedule();
}

// ---- Tiles

const tiles = new Map(); // key -> tile; what was used last is at the end
let weight = 0; // bytes of them
const plans = new Map(); // how a scale is cut into tiles
const flights = new Map(); // key -> AbortController
const failed = new Set(); // keys not to be asked for until the view changes
let preview = null; // the whole photo, small
let tick = 0; // drawings so far

// Tiles begin at the corner of the view in which their scale was first looked at, and divide it evenly: that view asks
// for its own pixels and no others. Their number is even, so that half a view is whole tiles.
function plan(make = false) {
  const key = `${view.photo} ${view.scale}`;
  if (!plans.has(key) && make) {
    const { x, y, width, height } = visible();
    const part = (n) => Math.max(Math.ceil(n / (n <= SIDE ? 1 : 2 * Math.ceil(n / (2 * SIDE)))), LEAST);
    plans.set(key, { x, y, width: part(width), height: part(height) });
    if (plans.size > 64) plans.delete(plans.keys().next().value);
  }
  return plans.get(key);
}

// The tiles of a plan over a part of the lattice, cut to the picture.
function covering({ x, y, width, height }, cut) {
  const found = [];
  const [right, bottom] = [Math.min(x + width, columns()), Math.min(y + height, rows())];
  const first = (n, from, step) => from + Math.floor((Math.max(n, 0) - from) / step) * step;
  for (let top = first(y, cut.y, cut.height); top < bottom; top += cut.height)
    for (let left = first(x, cut.x, cut.width); left < right; left += cut.width) {
      const [l, t] = [Math.max(left, 0), Math.max(top, 0)];
      const size = { width: Math.min(left + cut.width, columns()) - l, height: Math.min(top + cut.height, rows()) - t };
      if (size.width > 0 && size.height > 0) found.push({ x: l, y: t, ...size });
    }
  return found;
}

const keyOf = (method, r) => [view.photo, method, view.scale, r.x, r.y, r.width, r.height].join(" ");
const query = (method, { x, y, width, height }, more) =>
  new URLSearchParams({ photo: view.photo, method, scale: view.scale, x, y, width, height, ...more });

// A method's part of the canvas, as a part of the lattice.
function sideOf(left) {
  const split = Math.round(view.split * pane.width);
  const [from, to] = left ? [0, split] : [split, pane.width];
  return { x: view.x + from, y: view.y, width: to - from, height: pane.height };
}

// Whether a method's tiles of a scale that is near lie under all of a part: stretched, they are sharper than bicubic.
function known(method, { x, y, width, height }) {
  const near = others(method, { x, y, width, height }).filter((tile) => tile.scale >= view.scale / NEAR).map(scaled);
  const within = (u, v) => near.some(([l, t, r, b]) => u >= l && u < r && v >= t && v < b);
  return [0, 0.5, 1].every((i) => [0, 0.5, 1].every((j) => within(x + i * (width - 1), y + j * (height - 1))));
}

// Tiles that are missing, the most urgent and nearest first. Rank: 0 quick ones, 1 models; 2, 3 the same of the strip.
function missing() {
  if (!photo || resting || !pane.width) return [];
  const cut = plan(true);
  const eye = spot();
  const list = new Map();
  const add = (method, r, rank) => {
    const key = keyOf(method, r);
    if (tiles.has(key) || (list.get(key)?.rank ?? 9) <= rank) return;
    const far = Math.hypot(r.x + r.width / 2 - view.x - eye.x, r.y + r.height / 2 - view.y - eye.y);
    list.set(key, { key, method, r, rank, far });
    if (bicubic >= 0 && !QUICK.has(methods[method].kind) && !known(method, r)) add(bicubic, r, rank - 1);
  };
  const rank = (method) => (QUICK.has(methods[method].kind) ? 0 : 1);
  for (const [method, side] of [[view.left, sideOf(true)], [view.right, sideOf(false)]])
    if (side.width > 0) for (const r of covering(side, cut)) add(method, r, rank(method));
  if (strip.open)
    for (const cell of strip.cells)
      for (const r of covering(partOf(cell), cut)) add(cell.method, r, rank(cell.method) + 2);
  return [...list.values()].sort((a, b) => a.rank - b.rank || a.far - b.far);
}

// Asks for what is missing, and no longer for what is not.
function pump() {
  const list = missing();
  const keys = new Set(list.map((job) => job.key));
  for (const [key, { stop }] of flights)
    if (!keys.has(key)) {
      flights.delete(key);
      stats.aborted += 1;
      stop.abort();
    }
  for (const job of list) {
    if (job.rank > 1 && strip.resting) break;
    const slow = !QUICK.has(methods[job.method].kind);
    const alike = [...flights.values()].filter((other) => other.slow === slow).length;
    if (flights.size >= FLIGHTS || alike >= MOST_ALIKE) continue;
    if (!flights.has(job.key) && !failed.has(job.key)) ask(job);
  }
}

async function ask({ key, method, r }) {
  const stop = new AbortController();
  const { photo, scale } = view;
  flights.set(key, { stop, slow: !QUICK.has(methods[method].kind) });
  stats.asked += 1;
  try {
    const answer = await get(`/tile?${query(method, r)}`, stop.signal);
    const bytes = new Uint8ClampedArray(await answer.arrayBuffer());
    const tile = await pictured(bytes, r);
    if (stop.signal.aborted) return tile.bitmap.close();
    news.push(keep(key, { ...tile, photo, method, scale, born: performance.now() }));
    stats.got += 1;
    stats.pixels += r.width * r.height;
    if (trouble) say("");
  } catch (error) {
    if (stop.signal.aborted) return;
    failed.add(key);
    if (error.status !== 503) {
      say(error.message, true);
      trouble = true;
    }
    setTimeout(() => failed.delete(key) && pump(), error.status === 503 ? AGAIN.dropped : AGAIN.failed);
  } finally {
    if (flights.get(key)?.stop === stop) flights.delete(key);
  }
  schedule(false, false);
  pump();
}

async function pictured(bytes, r) {
  let solid = true;
  for (let i = 3; i < bytes.length && solid; i += 4) solid = bytes[i] === 255;
  return { ...r, solid, bitmap: await createImageBitmap(new ImageData(bytes, r.width, r.height)) };
}

function keep(key, tile) {
  tile.tick = tick;
  tiles.set(key, tile);
  weight += tile.width * tile.height * 4;
  for (const [old, { bitmap, width, height, tick: used }] of tiles) {
    if (weight <= KEPT || used === tick) break; // never what is on the screen
    weight -= width * height * 4;
    tiles.delete(old);
    bitmap.close();
  }
  return tile;
}

// The answer to a request, or an Error with its one line.
async function get(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("no answer: is liif-fast view still running?");
  }
  if (answer.ok) return answer;
  const line = (await answer.text()).trim() || `answer ${answer.status}`;
  throw Object.assign(new Error(line), { status: answer.status });
}

// ---- Drawing

// Only what is new is drawn again: a browser without a graphics card draws by the processors that the models need.
let frame = 0;
let fadeTimer = 0;
let clock = 0; // of the drawing in hand
let news = []; // tiles that came since the last drawing, or still fade in
const stale = { canvas: true, strip: true }; // to be drawn as a whole

function schedule(canvas = true, strip = true) {
  stale.canvas ||= canvas;
  stale.strip ||= strip;
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  tick += 1;
  clock = performance.now();
  if (!photo || !pane.width) return;
  news = news.filter((tile) => tile.photo === view.photo && tile.scale === view.scale);
  for (const left of [true, false]) {
    const side = sideOf(left);
    paint(pen, left ? view.left : view.right, side, side.x - view.x, stale.canvas ? null : news);
  }
  if (strip.open)
    for (const cell of strip.cells) paint(cell.pen, cell.method, partOf(cell), 0, stale.strip ? null : news);
  stale.canvas = stale.strip = false;
  news = news.filter((tile) => seen(tile) < 1);
  pump();
  showReadout();
  measure();
  if (news.length)
    fadeTimer ||= setTimeout(() => {
      fadeTimer = 0;
      schedule(false, false);
    }, FADE / 2);
  tellSettled();
}

// A method's picture of a part of the lattice, at column `left` of a canvas: the best that is there. Of what `tiles`
// cover, unless all is to be drawn (null).
function paint(pen, method, part, left, tiles) {
  if (part.width <= 0) return;
  const own = present(method, part);
  if (tiles && !tiles.length) return;
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, part.width, part.height);
  pen.clip();
  pen.translate(left, 0); // and the part's place is subtracted here: a canvas counts to 2^24 only
  if (tiles) {
    pen.beginPath();
    for (const { x, y, width, height } of tiles) pen.rect(x - part.x, y - part.y, width, height);
    pen.clip();
  }
  pen.clearRect(0, 0, part.width, part.height);
  pen.beginPath();
  const [x, y] = [Math.max(-part.x, 0), Math.max(-part.y, 0)];
  const [right, bottom] = [Math.min(columns() - part.x, part.width), Math.min(rows() - part.y, part.height)];
  pen.rect(x, y, Math.max(right - x, 0), Math.max(bottom - y, 0)); // what is stretched may end beyond
  pen.clip();
  if (!own.whole) {
    if (preview) stretch(pen, preview, [0, 0, columns(), rows()], part);
    const layers = method === bicubic || bicubic < 0 ? [method] : [bicubic, method];
    for (const layer of layers) {
      for (const tile of others(layer, part)) stretch(pen, tile, scaled(tile), part);
      if (layer !== method) for (const tile of present(layer, part).found) exact(pen, tile, part);
    }
  }
  for (const tile of own.found) exact(pen, tile, part);
  pen.restore();
}

// Tiles of this scale over a part; whole: they are all there, and nothing shines through.
function present(method, part) {
  const cut = plan();
  const rects = cut ? covering(part, cut) : [];
  const found = [];
  for (const r of rects) {
    const key = keyOf(method, r);
    const tile = tiles.get(key);
    if (!tile) continue;
    tiles.delete(key); // to the end
    tiles.set(key, tile);
    tile.tick = tick;
    found.push(tile);
  }
  return { found, whole: cut && found.length === rects.length && found.every((tile) => seen(tile) === 1) };
}

function seen(tile) {
  return calm.matches ? 1 : clamp((clock - tile.born) / FADE, 0, 1);
}

function exact(pen, tile, part) {
  const [x, y] = [tile.x - part.x, tile.y - part.y];
  const share = seen(tile);
  if (share === 1 && !tile.solid) pen.clearRect(x, y, tile.width, tile.height);
  pen.globalAlpha = share;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(tile.bitmap, x, y);
  pen.globalAlpha = 1;
}

// A method's tiles of other scales, the nearest scale last. Those that know less than the photo are of no use above
// their own scale: bicubic of all its pixels is sharper.
function others(method, part) {
  const scales = new Map();
  for (const tile of tiles.values()) {
    if (tile.photo !== view.photo || tile.method !== method || tile.scale === view.scale) continue;
    if (tile.scale < Math.min(view.scale, 1)) continue;
    const [l, t, r, b] = scaled(tile);
    if (r <= part.x || b <= part.y || l >= part.x + part.width || t >= part.y + part.height) continue;
    if (!scales.has(tile.scale)) scales.set(tile.scale, []);
    scales.get(tile.scale).push(tile);
  }
  const distance = (scale) => Math.abs(Math.log(scale / view.scale));
  const nearest = [...scales.keys()].sort((a, b) => distance(a) - distance(b)).slice(0, 3);
  return nearest.reverse().flatMap((scale) => scales.get(scale));
}

// Edges on whole pixels: tiles beside each other leave no seam.
function scaled({ x, y, width, height, scale }) {
  return [x, y, x + width, y + height].map((n) => Math.round((n * view.scale) / scale));
}

function stretch(pen, { bitmap, solid }, [left, top, right, bottom], { x, y }) {
  const place = [left - x, top - y, right - left, bottom - top];
  if (!solid) pen.clearRect(...place);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "medium";
  pen.drawImage(bitmap, ...place);
}

// ---- What the page says

let pointer = null; // the last place of it on the canvas, in the canvas's pixels
let said = false;
let trouble = false; // a tile failed: what is said about it goes away with the next one that comes
const middle = () => ({ x: pane.width / 2, y: pane.height / 2 });
const spot = () => pointer ?? middle();

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text, bad = false) {
  trouble = false;
  said = text !== "";
  for (const element of [$("status"), $("save-status")]) {
    element.textContent = text;
    element.classList.toggle("bad", bad);
  }
}

// The lattice pixel under the pointer.
function under() {
  const { x, y } = spot();
  return { x: clamp(view.x + Math.floor(x), 0, columns() - 1), y: clamp(view.y + Math.floor(y), 0, rows() - 1) };
}

const scaleText = (s) => `×${s < 0.1 ? s.toPrecision(2) : s.toFixed(s < 10 ? 2 : s < 100 ? 1 : 0)}`;

function showReadout() {
  put($("scale"), scaleText(view.scale));
  const at = under();
  const places = clamp(Math.ceil(Math.log10(view.scale)), 0, 4); // as many as a pixel of the screen can tell apart
  put($("position"), [at.x, at.y].map((n) => ((n + 0.5) / view.scale).toFixed(places)).join(", "));
  [view.left, view.right].forEach((method, i) => showColour($("colours").children[i], colour(method, at)));
  if (strip.open) for (const cell of strip.cells) showColour(cell.text, colour(cell.method, at));
  const divider = $("divider");
  divider.style.left = `${view.split * 100}%`;
  divider.setAttribute("aria-valuenow", Math.round(view.split * 100));
  const part = visible();
  const box = [part.x - view.x, part.y - view.y, part.width, part.height].map((n) => `${n / pane.ratio}px`);
  ["left", "top", "width", "height"].forEach((name, i) => ($("board").style[name] = box[i]));
}

function showColour(element, text) {
  const [swatch, word] = element.children;
  put(word, text ?? "–");
  swatch.style.background = text ?? "none";
}

const drop = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

// A method's value at a lattice pixel, if it is known.
function colour(method, { x, y }) {
  const tile = present(method, { x, y, width: 1, height: 1 }).found[0];
  if (!tile) return null;
  drop.clearRect(0, 0, 1, 1);
  drop.drawImage(tile.bitmap, x - tile.x, y - tile.y, 1, 1, 0, 0, 1, 1);
  const [r, g, b, a] = drop.getImageData(0, 0, 1, 1).data;
  return "#" + (a === 255 ? [r, g, b] : [r, g, b, a]).map((n) => n.toString(16).padStart(2, "0")).join("");
}

const psnr = { key: "", known: new Map(), timer: 0, stop: null };

// Whether the centre of a pixel of the truth is in the visible part: without one there is nothing to compare.
function comparable() {
  const { x, y, width, height } = visible();
  const any = (from, length, n, whole) => {
    const [low, high] = [from, from + length].map((k) => ((k / view.scale) * n) / whole - 0.5);
    return Math.max(Math.ceil(low), 0) <= Math.min(Math.floor(high), n - 1);
  };
  return any(x, width, photo.truth.width, photo.width) && any(y, height, photo.truth.height, photo.height);
}

// PSNR of the visible part for both methods, when the view has come to rest.
function measure() {
  if (!photo.truth) return put($("psnr"), "");
  const key = [view.photo, view.scale, ...Object.values(visible())].join(" ");
  if (key !== psnr.key) {
    psnr.key = key;
    psnr.known.clear();
    clearTimeout(psnr.timer);
    psnr.stop?.abort();
    psnr.timer = psnr.stop = null;
  }
  const able = comparable();
  const texts = [view.left, view.right].map((method) => psnr.known.get(method) ?? (able ? "…" : "–"));
  put($("psnr"), `PSNR ${texts.join(" | ")} dB`);
  const wanted = [view.left, view.right].find((method) => !psnr.known.has(method));
  if (!able || wanted === undefined || psnr.timer || psnr.stop || !still()) return;
  psnr.timer = setTimeout(async () => {
    psnr.timer = null;
    const stop = (psnr.stop = new AbortController());
    try {
      const value = (await (await get(`/psnr?${query(wanted, visible())}`, stop.signal)).json()).psnr;
      psnr.known.set(wanted, value === null ? "∞" : value.toFixed(2));
    } catch (error) {
      if (stop.signal.aborted) return;
      psnr.known.set(wanted, "–");
      say(error.message, true);
    }
    psnr.stop = null;
    schedule(false, false);
  }, REST.psnr);
}

// ---- The strip: every method at the pointer

const strip = { open: true, cells: [], resting: 0 };

function partOf(cell) {
  const at = under();
  const { width, height } = cell.canvas;
  return { x: at.x - (width >> 1), y: at.y - (height >> 1), width, height };
}

function makeStrip() {
  strip.cells = methods.map(({ name }, method) => {
    const figure = $("cell").content.firstElementChild.cloneNode(true);
    const [canvas, label, text] = ["canvas", "b", "span"].map((tag) => figure.querySelector(tag));
    canvas.setAttribute("aria-label", `${name} at the pointer`);
    label.textContent = label.title = name;
    canvas.width = 0; // until it is measured nothing is asked for
    return { figure, canvas, text, method, pen: canvas.getContext("2d") };
  });
  $("strip").replaceChildren(...strip.cells.map((cell) => cell.figure));
  document.documentElement.style.setProperty("--methods", strip.cells.length);
  for (const cell of strip.cells) watchSize(cell.canvas);
}

function fold(open = !strip.open) {
  strip.open = open;
  $("strip").hidden = !open;
  $("fold").setAttribute("aria-pressed", open);
  changed();
}

function point(at) {
  pointer = at;
  schedule(false);
  if (!strip.open) return;
  clearTimeout(strip.resting);
  strip.resting = setTimeout(() => {
    strip.resting = 0;
    schedule(false, false);
    pump();
  }, REST.strip);
}

// ---- Pointer, wheel, keys

const fingers = new Map(); // pointerId -> place on the canvas
let grip = null; // what a drag or a pinch began with, and where it has left the view
const where = () => [view.photo, view.scale, view.x, view.y].join(" ");

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * pane.width) / box.width,
    y: ((event.clientY - box.top) * pane.height) / box.height,
  };
}

function hold() {
  const [a, b] = [...fingers.values()];
  canvas.classList.toggle("held", fingers.size > 0);
  if (!a || !photo) return (grip = null);
  const at = b ? { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } : a;
  const apart = b && Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1);
  const { level, scale, x, y } = view;
  grip = { at, apart, level, x, y, u: (x + at.x) / scale, v: (y + at.y) / scale, left: where() };
}

function drag() {
  const [a, b] = [...fingers.values()];
  if (!b) return moveTo(grip.x - Math.round(a.x - grip.at.x), grip.y - Math.round(a.y - grip.at.y));
  const at = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  anchor = { ...at, u: grip.u, v: grip.v };
  zoom(grip.level + Math.log2(Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1) / grip.apart), at.x, at.y);
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, placeOf(event));
  point(placeOf(event));
  hold();
});
canvas.addEventListener("pointermove", (event) => {
  const at = placeOf(event);
  if (fingers.size < 2) point(at);
  if (!fingers.has(event.pointerId)) return;
  if (grip && grip.left !== where()) hold(); // the wheel, a key or another photo moved the view meanwhile
  fingers.set(event.pointerId, at);
  if (!grip) return;
  drag();
  grip.left = where();
});
for (const name of ["pointerup", "pointercancel"])
  canvas.addEventListener(name, (event) => {
    if (fingers.delete(event.pointerId)) hold();
  });
canvas.addEventListener("dblclick", (event) => zoomBy(1, placeOf(event)));
stage.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    if (!event.deltaY) return;
    const pixels = event.deltaY * [1, 33, 400][event.deltaMode];
    const pixelsOfOctave = event.ctrlKey ? 70 : 400; // ctrl: a pinch on a pad, in small steps
    zoomBy(clamp(-pixels / pixelsOfOctave, -0.5, 0.5), placeOf(event));
  },
  { passive: false },
);

const divider = $("divider");
divider.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  divider.setPointerCapture(event.pointerId);
  const from = placeOf(event).x - view.split * pane.width; // where in the handle it was taken
  divider.onpointermove = (move) => divide((placeOf(move).x - from) / pane.width);
});
for (const name of ["pointerup", "pointercancel"]) divider.addEventListener(name, () => (divider.onpointermove = null));
divider.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.1 : 0.01;
  const to = { ArrowLeft: view.split - step, ArrowRight: view.split + step, Home: 0, End: 1 }[event.key];
  if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation();
  divide(to);
});

function push(dx, dy, far) {
  const step = (n) => (far ? Math.floor(n / 2) : Math.round(n / 10));
  moveTo(view.x + dx * step(pane.width), view.y + dy * step(pane.height));
}

const KEYS = {
  "+": () => zoomBy(0.5),
  "=": () => zoomBy(0.5),
  "-": () => zoomBy(-0.5),
  _: () => zoomBy(-0.5),
  0: fit,
  1: () => zoom(0, ...Object.values(middle()), 1),
  " ": swap,
  s: () => fold(),
  "?": () => $("keys").showModal(),
  "[": () => turn(-1),
  "]": () => turn(1),
  PageUp: () => turn(-1),
  PageDown: () => turn(1),
  ArrowLeft: (event) => push(-1, 0, event.shiftKey),
  ArrowRight: (event) => push(1, 0, event.shiftKey),
  ArrowUp: (event) => push(0, -1, event.shiftKey),
  ArrowDown: (event) => push(0, 1, event.shiftKey),
};

document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!Object.hasOwn(KEYS, key) || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("select, input, dialog") || (key === " " && event.target.closest("button"))) return;
  event.preventDefault();
  KEYS[key](event);
});

// A button or a list that was used by the pointer gives the keys back; one that was reached by Tab keeps them.
let byPointer = false;
document.addEventListener("pointerdown", () => (byPointer = true), true);
document.addEventListener("keydown", () => (byPointer = false), true);
const release = (event, what) => byPointer && event.target.closest(what)?.blur();
document.querySelector("header").addEventListener("click", (event) => release(event, "button"));
document.querySelector("header").addEventListener("change", (event) => release(event, "select"));

// ---- Saving

const saving = $("saving");
let download = null; // AbortController
let commanded = ""; // the query of the command that is shown, or waited for

function saveSize() {
  const part = visible();
  const width = $("save-width").valueAsNumber;
  const height = Math.max(1, Math.round((width * part.height) / part.width));
  const small = width * height <= MOST_SAVED && Math.max(width, height) <= LONGEST_SAVED;
  const fine = Number.isInteger(width) && width >= 1 && small;
  const most = `${MOST_SAVED} pixels in all and ${LONGEST_SAVED} a side`;
  $("save-width").setCustomValidity(fine ? "" : `a whole number is wanted, of at most ${most}`);
  put($("save-height"), fine ? `× ${height}` : "");
  $("save-copy").disabled = methods[$("save-method").value]?.kind !== "model";
  $("command").value = commanded = "";
  return { columns: width, rows: height };
}

function openSaving(method) {
  if (!photo) return;
  say("");
  $("save-method").value = method;
  $("save-width").value = visible().width;
  saveSize();
  saving.showModal();
}

async function save() {
  const path = `/save?${query($("save-method").value, visible(), saveSize())}`;
  download?.abort();
  const stop = (download = new AbortController());
  say("saving …");
  try {
    const answer = await get(path, stop.signal); // not by a link: its errors would be shown by nobody
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1] ?? "view.png";
    const url = URL.createObjectURL(await answer.blob());
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    saving.close();
    say(`saved ${name}`);
  } catch (error) {
    if (!stop.signal.aborted) say(error.message, true);
  }
}

async function copy() {
  const size = saveSize();
  if (!$("save-width").reportValidity()) return;
  const path = (commanded = `/command?${query($("save-method").value, visible(), size)}`);
  try {
    const line = (await (await get(path)).text()).trim();
    if (commanded !== path) return; // it was of another size, or method
    $("command").value = line;
    say((await toClipboard(line)) ? "copied" : "the line is selected: copy it");
  } catch (error) {
    if (commanded === path) say(error.message, true);
  }
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    $("command").select(); // a page that may not write there can still copy what is selected
    return document.execCommand("copy");
  }
}

$("save").onclick = () => openSaving(view.split < 1 ? view.right : view.left);
$("copy").onclick = () => {
  const isModel = (method) => methods[method].kind === "model";
  openSaving([view.right, view.left, ...methods.keys()].find(isModel));
  copy();
};
$("save-copy").onclick = copy;
$("save-width").oninput = $("save-method").onchange = saveSize;
$("close").onclick = () => saving.close();
saving.onclose = () => {
  if ($("save-status").textContent === "saving …") say("");
  download?.abort();
};
saving.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  save();
};

// ---- Photos, methods, the beginning

// The browser's own count, where it has one. (Where a device is emulated that may be of CSS pixels.)
function devicePixels(css, counted) {
  const about = css * devicePixelRatio;
  return Math.abs(counted - about) <= 1 ? counted : Math.round(about);
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect, devicePixelContentBoxSize: box } of entries) {
    const width = devicePixels(contentRect.width, box?.[0].inlineSize);
    const height = devicePixels(contentRect.height, box?.[0].blockSize);
    if (!width || !height || (target.width === width && target.height === height)) continue; // 0: folded away
    Object.assign(target, { width, height });
    if (target === canvas) resized(width, height, width / contentRect.width);
  }
  cancelAnimationFrame(frame);
  stale.canvas = stale.strip = true;
  draw(); // at once: a canvas of another size is empty
});

function watchSize(target) {
  try {
    sizes.observe(target, { box: "device-pixel-content-box" });
  } catch {
    sizes.observe(target); // Safari
  }
}

// The whole photo stays whole; otherwise its point in the middle stays there.
function resized(width, height, ratio) {
  const { x, y } = middle();
  const [u, v] = [(view.x + x) / view.scale, (view.y + y) / view.scale];
  Object.assign(pane, { width, height, ratio: ratio || 1 });
  pointer = anchor = null;
  if (!photo || !width) return;
  if (view.fit) begin();
  else place(u * view.scale - width / 2, v * view.scale - height / 2);
  rest();
}

function begin() {
  if (!pane.width) return;
  view.scale = fitting();
  view.level = Math.log2(view.scale);
  view.fit = true;
  anchor = null;
  place(0, 0);
  changed();
}

let opening = null; // AbortController
async function openPhoto(index) {
  opening?.abort();
  const stop = (opening = new AbortController());
  try {
    const facts = await (await get(`/photo?photo=${index}`, stop.signal)).json();
    const small = await glance(index, facts, stop.signal).catch(() => null); // until then the photo before stays
    if (stop.signal.aborted) return;
    photo = facts;
    preview = small;
    Object.assign(view, { photo: index, scale: 1, x: 0, y: 0 });
    $("board").hidden = !small || small.solid;
    $("strip").classList.toggle("clear", !$("board").hidden);
    $("photo").value = index;
    put($("notes"), facts.notes.join(" · "));
    document.title = `${names[index]} – liif-fast view`;
    say("");
    begin();
  } catch (error) {
    if (stop.signal.aborted) return;
    $("photo").value = view.photo;
    say(error.message, true);
  }
}

// The whole photo in one small tile, for when nothing else is there; null for a very long one.
async function glance(index, facts, signal) {
  const scale = Math.min(512 / Math.max(facts.width, facts.height), 1);
  if (scale * Math.min(facts.width, facts.height) < 1 || bicubic < 0) return null;
  const [width, height] = [facts.width, facts.height].map((n) => Math.max(1, Math.floor(n * scale + 1e-6)));
  const asked = new URLSearchParams({ photo: index, method: bicubic, scale, x: 0, y: 0, width, height });
  const answer = await get(`/tile?${asked}`, signal);
  return pictured(new Uint8ClampedArray(await answer.arrayBuffer()), { width, height });
}

function turn(step) {
  const index = Number($("photo").value) + step;
  if (index < 0 || index >= names.length) return;
  $("photo").value = index;
  openPhoto(index);
}

function showMethods() {
  for (const side of ["left", "right"]) {
    $(side).value = view[side];
    put($(`${side}-name`), methods[view[side]].name);
  }
}

function list(select, texts) {
  select.replaceChildren(...texts.map((text, i) => new Option(text, i)));
}

async function start() {
  try {
    const state = await (await get("/state")).json();
    methods = state.methods;
    names = state.photos.map(({ name }) => name);
    largest = state.scale;
  } catch (error) {
    return say(error.message, true);
  }
  bicubic = methods.findIndex(({ kind }) => kind === "bicubic");
  const model = methods.findIndex(({ kind }) => kind === "model");
  Object.assign(view, { left: Math.max(bicubic, 0), right: Math.max(model, 0) });
  for (const select of [$("left"), $("right"), $("save-method")])
    list(select, methods.map(({ name, note }) => (note ? `${name} (${note})` : name)));
  list($("photo"), names);
  $("photos").hidden = names.length < 2;
  $("copy").disabled = model < 0;
  showMethods();
  makeStrip(); // before the canvas is measured: it takes room from it
  watchSize(canvas);
  await openPhoto(0);
}

$("photo").onchange = () => openPhoto(Number($("photo").value));
for (const side of ["left", "right"])
  $(side).onchange = () => {
    view[side] = Number($(side).value);
    showMethods();
    changed();
  };
const buttons = { swap, fit, out: KEYS["-"], in: KEYS["+"], one: KEYS[1], fold: KEYS.s, help: KEYS["?"] };
for (const [id, act] of Object.entries(buttons)) $(id).onclick = () => act();
$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};

// ---- For tests, and for consoles

const waiting = [];
const still = () => photo !== null && !resting && !news.length && missing().every(({ rank }) => rank > 1);
const measured = () => !strip.open || strip.cells.every((cell) => cell.canvas.width);
const settled = () => still() && !frame && !strip.resting && measured() && missing().length === 0;

function tellSettled() {
  if (waiting.length && settled()) waiting.splice(0).forEach((tell) => tell());
}

window.liifView = {
  // What is shown: places in /state's lists, the scale, the lattice pixel at the canvas's top left, the canvas.
  state: () => ({ ...view, canvas: { ...pane }, visible: photo && visible(), pointer }),
  // Resolves when every tile that is seen is there and has appeared.
  settled: () => new Promise((tell) => (waiting.push(tell), schedule(false, false))),
  // Tiles that were asked for, that came, that were given up; pixels that came.
  stats: () => ({ ...stats, kept: tiles.size, bytes: weight }),
};

start();
