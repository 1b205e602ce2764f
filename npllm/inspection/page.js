"use strict";
document.documentElement.classList.add("js");
const get = (id) => document.getElementById(id);
const tokens = [...get("text").querySelectorAll(".t")];  // the last stands for what comes next
const steps = tokens.length - 1;
let place = steps, layer = 0, head = 0, query = steps - 1, weights = null, shape = null;

function choose(n) {
  place = Math.min(Math.max(n, 0), steps);
  query = Math.min(place, steps - 1);
  tokens.forEach((token, i) => token.classList.toggle("on", i === place));
  for (const article of document.querySelectorAll("article"))
    article.classList.toggle("on", article.id === "p" + Math.max(place, 1));
  drawMap();
}

tokens.forEach((token, i) => token.addEventListener("click", (event) => {
  event.preventDefault();
  choose(i);
}));
addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const other = event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input");
  if (!by || other) return;
  event.preventDefault();
  choose(place + by);
  if (event.target.matches(".t")) tokens[place].focus();
});

function weight(h, q, k) {
  const row = ((layer * shape.heads + h) * (steps + 1) * steps) / 2 + (q * (q + 1)) / 2;
  return weights[row + k] / 255;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { cool: style.getPropertyValue("--cool").trim(),
    back: style.getPropertyValue("--card").trim(),
    line: style.getPropertyValue("--chosen").trim() };
}

function drawHead(canvas, h) {
  canvas.width = canvas.height = steps;  // a pixel a weight
  const context = canvas.getContext("2d"), { cool, back } = colours();
  for (let q = 0; q < steps; q++) {
    context.fillStyle = back;
    context.fillRect(0, q, q + 1, 1);
    for (let k = 0; k <= q; k++) {
      context.fillStyle = `rgb(${cool} / ${Math.sqrt(weight(h, q, k))})`;
      context.fillRect(k, q, 1, 1);
    }
  }
}

function drawHeads() {
  get("layer-shown").value = layer;
  get("heads").querySelectorAll("canvas").forEach(drawHead);
  drawMap();
}

function drawMap() {
  if (!weights) return;
  const map = get("map"), cell = Math.max(2, Math.floor(1024 / steps)), edge = 3;
  map.width = map.height = steps * cell;
  map.ariaLabel = `attention of layer ${layer}, head ${head}`;
  const context = map.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(get("heads").children[head].firstChild, 0, 0, map.width, map.height);
  context.strokeStyle = colours().line;
  context.lineWidth = edge;
  context.strokeRect(edge / 2, query * cell, (query + 1) * cell - edge, cell);
  [...get("heads").children].forEach((button, h) => {
    button.classList.toggle("on", h === head);
    button.setAttribute("aria-pressed", h === head);
  });
  get("looks").replaceChildren(`Layer ${layer}, head ${head}: token ${query} `, chip(query),
    " looks at");
  [...get("seen").querySelectorAll(".t")].forEach((token, k) => {
    token.style.setProperty("--w", k > query ? 0 : Math.sqrt(weight(head, query, k)));
    token.classList.toggle("later", k > query);
    token.classList.toggle("on", k === query);
  });
  const most = Array.from({ length: query + 1 }, (_, k) => [weight(head, query, k), k])
    .filter(([w]) => w > 0).sort((a, b) => b[0] - a[0]).slice(0, 8);
  get("most").replaceChildren(...most.map(([w, k]) => {
    const item = document.createElement("li");
    item.append(chip(k), ` token ${k}: ${Math.round(100 * w)} %`);
    return item;
  }));
}

function chip(k) {
  const copy = tokens[k].cloneNode(true), span = document.createElement("span");
  span.className = "t";
  span.append(...copy.childNodes);
  return span;
}

function prepare() {
  get("layer").addEventListener("input", (event) => {
    layer = Number(event.target.value);
    drawHeads();
  });
  for (let h = 0; h < shape.heads; h++) {
    const button = document.createElement("button");
    button.append(document.createElement("canvas"), `head ${h}`);
    button.addEventListener("click", () => { head = h; drawMap(); });
    get("heads").append(button);
  }
  for (let k = 0; k < steps; k++) {
    const span = chip(k);
    span.addEventListener("click", () => choose(k));
    get("seen").append(span);
    const next = tokens[k].nextElementSibling;
    if (next.matches("br")) get("seen").append(next.cloneNode());
  }
  const at = (event) => {
    const box = get("map").getBoundingClientRect();
    const cell = (offset, size) =>
      Math.min(Math.max(Math.floor((offset / size) * steps), 0), steps - 1);
    return [cell(event.clientY - box.top, box.height), cell(event.clientX - box.left, box.width)];
  };
  get("map").addEventListener("pointermove", (event) => {
    const [q, k] = at(event);
    if (q !== query) { query = q; drawMap(); }
    get("cell").replaceChildren(`token ${q} `, chip(q), ` at token ${k} `, chip(k),
      k > q ? ": comes later" : `: ${(100 * weight(head, q, k)).toFixed(1)} %`);
  });
  get("map").addEventListener("click", (event) => choose(at(event)[0]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawHeads);
  drawHeads();
}

async function unpack() {
  shape = JSON.parse(get("shape").textContent);
  const bytes = Uint8Array.from(atob(get("weights").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  weights = new Uint8Array(await new Response(stream).arrayBuffer());
  prepare();
}

choose(/^#p\d+$/.test(location.hash) ? Number(location.hash.slice(2)) : Math.min(1, steps));
if (get("weights")) unpack().catch(() => { get("failed").hidden = false; });
