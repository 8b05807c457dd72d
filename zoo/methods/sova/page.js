"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.querySelector("svg");
const circles = [...svg.querySelectorAll("circle")];
const search = document.getElementById("search");
const results = document.getElementById("results");
const detail = document.getElementById("detail");
const MOST = 60;

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function kindOf(node) {
  return node.label ? node.kind + ", " + node.label : node.kind;
}

function nodeButton(place) {
  const item = document.createElement("li");
  const button = element("button", data.nodes[place].text);
  const kind = element("span", kindOf(data.nodes[place]));
  kind.className = "kind";
  button.addEventListener("click", () => show(place));
  item.append(kind, button);
  return item;
}

function show(place) {
  const node = data.nodes[place];
  circles.forEach((circle, i) => circle.classList.toggle("chosen", i === place));
  const near = element("ul", "");
  data.edges.forEach(([start, kind, end]) => {
    if (start !== place && end !== place) return;
    const item = nodeButton(start === place ? end : start);
    item.prepend(start === place ? kind.replace("_", " ") + " → " : "← " + kind.replace("_", " ") + " ");
    near.append(item);
  });
  const sources = element("p", "Sources: " + node.sources.join("; "));
  sources.className = "kind";
  detail.replaceChildren(element("h2", node.text), element("p", kindOf(node)), near, sources);
  data.reports.filter((report) => report.community === node.community).forEach((report) => {
    detail.append(element("h3", report.title), element("p", report.theory), element("p", report.summary));
    const rules = element("ul", "");
    report.findings.forEach((finding) => rules.append(element("li", finding)));
    detail.append(rules);
  });
}

function find() {
  const words = search.value.trim().toLowerCase();
  const hits = [];
  data.nodes.forEach((node, i) => {
    const hit = words !== "" && (node.text + " " + kindOf(node)).toLowerCase().includes(words);
    circles[i].classList.toggle("hit", hit);
    if (hit) hits.push(i);
  });
  svg.classList.toggle("searching", words !== "");
  results.replaceChildren(...hits.slice(0, MOST).map(nodeButton));
  const more = hits.length > MOST ? ", the first " + MOST + " are listed" : "";
  document.getElementById("found").textContent = words === "" ? "" : hits.length + " found" + more;
}

circles.forEach((circle, i) => circle.addEventListener("click", () => show(i)));
search.addEventListener("input", find);

const box = svg.viewBox.baseVal;
svg.addEventListener("wheel", (event) => {
  event.preventDefault();
  const scale = event.deltaY > 0 ? 1.15 : 1 / 1.15;
  box.x += (box.width * (1 - scale)) / 2;
  box.y += (box.height * (1 - scale)) / 2;
  box.width *= scale;
  box.height *= scale;
}, { passive: false });
svg.addEventListener("pointermove", (event) => {
  if (event.buttons !== 1) return;
  const step = box.width / svg.clientWidth;
  box.x -= event.movementX * step;
  box.y -= event.movementY * step;
});

if (location.hash.startsWith("#q=")) {
  search.value = decodeURIComponent(location.hash.slice(3));
  find();
}
