// The map of the items: a canvas that is panned, zoomed and searched.
"use strict";

const canvas = document.getElementById("map");
const told = document.getElementById("told");
const search = document.getElementById("find");
const results = document.getElementById("results");
const inPage = document.getElementById("points"); // a report has the points in it, and no pages of items to open
const addressOfItem = (at) => canvas.dataset.item && canvas.dataset.item + encodeURIComponent(points.ids[at]);
const view = { scale: 1, x: 0.5, y: 0.5 }; // what is in the middle, in parts of the whole
let points = null;
let matches = new Set();
let pending = false;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
const mixed = (one, other, share) => one.map((value, at) => Math.round(value + (other[at] - value) * share));

function colours() {
  const named = ["--a", "--b", "--d", "--e", "--f", "--g"].map((name) => packed(rgb(css(name))));
  const rest = packed(mixed(rgb(css("--soft")), rgb(css("--ground")), 0.45));
  const groups = Number(canvas.dataset.groups);
  const byGroup = Array.from({ length: groups }, (_, at) => (at === groups - 1 ? rest : named[at]));
  const byPopularity = Array.from({ length: 256 }, (_, at) => packed(mixed(rgb(css("--rule")), rgb(css("--b")), at / 255)));
  return { byGroup, byPopularity, marked: packed(rgb(css("--ink"))) };
}

// Where a point of the grid is drawn, in pixels.
const placed = (grid, middle, size, least) => (grid / 65535 - middle) * view.scale * least * 0.94 + size / 2;

function draw() {
  pending = false;
  if (!points) return;
  const ratio = window.devicePixelRatio || 1;
  const width = (canvas.width = Math.round(canvas.clientWidth * ratio));
  const height = (canvas.height = Math.round(canvas.clientHeight * ratio));
  const least = Math.min(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const { byGroup, byPopularity, marked } = colours();
  const popular = document.querySelector("[name=colour]:checked").value === "popularity";
  const around = Math.max(1, Math.round(ratio * Math.min(4, 0.6 + Math.sqrt(view.scale) * (points.x.length > 20000 ? 0.5 : 1))));
  const dot = (at, colour, radius) => {
    const x = Math.round(placed(points.x[at], view.x, width, least));
    const y = Math.round(height - placed(points.y[at], view.y, height, least));
    if (x < -radius || y < -radius || x > width + radius || y > height + radius) return;
    for (let down = Math.max(0, y - radius); down <= Math.min(height - 1, y + radius); down++) {
      for (let right = Math.max(0, x - radius); right <= Math.min(width - 1, x + radius); right++) {
        if ((right - x) ** 2 + (down - y) ** 2 <= radius * radius + 1) pixels[down * width + right] = colour;
      }
    }
  };
  for (let at = 0; at < points.x.length; at++) {
    dot(at, popular ? byPopularity[points.popularity[at]] : byGroup[points.group[at]], around);
  }
  for (const at of matches) dot(at, marked, around + 3);
  context.putImageData(image, 0, 0);
  canvas.dataset.drawn = points.x.length;
}

function redraw() {
  if (!pending) requestAnimationFrame(draw);
  pending = true;
}

function nearest(event) {
  const box = canvas.getBoundingClientRect();
  const least = Math.min(box.width, box.height);
  const [x, y] = [event.clientX - box.left, box.height - (event.clientY - box.top)];
  let [best, distance] = [-1, 144];
  for (let at = 0; at < points.x.length; at++) {
    const far = (placed(points.x[at], view.x, box.width, least) - x) ** 2 + (placed(points.y[at], view.y, box.height, least) - y) ** 2;
    if (far < distance) [best, distance] = [at, far];
  }
  return best;
}

function zoom(factor, event) {
  const box = canvas.getBoundingClientRect();
  const least = Math.min(box.width, box.height) * 0.94;
  const x = event ? event.clientX - box.left - box.width / 2 : 0;
  const y = event ? box.height / 2 - (event.clientY - box.top) : 0;
  const scale = Math.min(200, Math.max(1, view.scale * factor));
  view.x += x / least / view.scale - x / least / scale;
  view.y += y / least / view.scale - y / least / scale;
  view.scale = scale;
  redraw();
}

function find() {
  const text = search.value.trim().toLowerCase();
  matches = new Set();
  if (text && points) points.titles.forEach((title, at) => title.toLowerCase().includes(text) && matches.add(at));
  results.replaceChildren(
    ...[...matches].slice(0, 12).map((at) => {
      const link = document.createElement(addressOfItem(at) ? "a" : "span");
      link.textContent = points.titles[at];
      if (addressOfItem(at)) link.href = addressOfItem(at);
      const row = document.createElement("li");
      row.append(link);
      return row;
    })
  );
  told.textContent = text ? `${matches.size} found` : "";
  redraw();
}

let held = null;
canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary) return;
  held = { x: event.clientX, y: event.clientY, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!points) return;
  if (held && event.isPrimary) {
    const least = Math.min(canvas.clientWidth, canvas.clientHeight) * 0.94 * view.scale;
    view.x -= (event.clientX - held.x) / least;
    view.y += (event.clientY - held.y) / least;
    held = { x: event.clientX, y: event.clientY, moved: held.moved || Math.abs(event.clientX - held.x) + Math.abs(event.clientY - held.y) > 2 };
    redraw();
    return;
  }
  const at = nearest(event);
  told.textContent = at < 0 ? "" : points.titles[at];
  canvas.style.cursor = at < 0 ? "grab" : "pointer";
});
canvas.addEventListener("pointerup", (event) => {
  const at = held && !held.moved ? nearest(event) : -1;
  held = null;
  if (at >= 0 && addressOfItem(at)) location.href = addressOfItem(at);
  else if (at >= 0) told.textContent = points.titles[at];
});
canvas.addEventListener("pointercancel", () => (held = null)); // the page is scrolled
if (inPage) canvas.style.touchAction = "pan-y";
canvas.addEventListener("wheel", (event) => {
  if (inPage && !event.ctrlKey) return; // the page is scrolled
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), event);
}, { passive: false });
const step = (sign) => (sign * 0.08) / view.scale;
const moves = { ArrowLeft: () => (view.x += step(-1)), ArrowRight: () => (view.x += step(1)), ArrowUp: () => (view.y += step(1)), ArrowDown: () => (view.y += step(-1)),
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: () => Object.assign(view, { scale: 1, x: 0.5, y: 0.5 }) };
function move(event, key) {
  if (!moves[key]) return;
  event.preventDefault();
  moves[key]();
  redraw();
}
canvas.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || move(event, event.key));
document.querySelectorAll("[data-key]").forEach((button) => button.addEventListener("click", (event) => move(event, button.dataset.key)));
search.addEventListener("input", find);
document.querySelectorAll("[name=colour]").forEach((choice) => choice.addEventListener("change", () => {
  document.getElementById("groups").hidden = choice.value === "popularity" && choice.checked;
  redraw();
}));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(redraw).observe(canvas);
const begin = (found) => { points = found; find(); };
if (inPage) begin(JSON.parse(inPage.textContent));
else fetch(canvas.dataset.points).then((answer) => answer.json()).then(begin).catch(() => (told.textContent = "The points did not come; load the page again."));
