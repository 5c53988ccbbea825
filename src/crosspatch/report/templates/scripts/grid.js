// A picture of rows and columns, an element for each cell that is in sight: others are made when they are scrolled to.
// Rows run upwards. The looks of cells are in report.css.
// Wider for fingers.
const [NARROWEST, WIDEST] = matchMedia("(pointer: coarse)").matches ? [16, 26] : [12, 26];
const TOP = 32, TALLEST = 18, LETTER = 6.4;
// Columns and rows beside the window that are drawn too.
const BEYOND = 20;

class Grid {
  // `describe` gives the lines about a cell as [name, text]; `choose` is called for a cell that was clicked or reached by keys.
  constructor(root, { label, describe, choose }) {
    Object.assign(this, { describe, choose, model: null });
    this.cells = make("div", { className: "cells" });
    this.names = make("div", { className: "rows" });
    this.scroller = make("div", { className: "grid", tabIndex: 0, role: "application", "aria-roledescription": "heatmap", "aria-label": label }, this.names, this.cells);
    this.tip = make("div", { className: "tip", role: "tooltip", hidden: true });
    root.replaceChildren(this.scroller);
    document.body.append(this.tip);
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("blur", () => { this.tip.hidden = true; });
    this.cells.addEventListener("pointermove", (event) => this.hover(event));
    this.cells.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.cells.addEventListener("click", (event) => { const at = this.at(event); if (at) this.go(...at); });
    for (const where of [this.scroller, window]) where.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(this.scroller);
  }

  // rows: names, lowest first. columns: how many. numbers(c): the number above a column, or null; label(c): the text below it.
  // cell(r, c): null, or { kind, value, faded, ring }. colour(value), reach: how a value is drawn, and where marks begin.
  show(model) {
    this.model = { numbers: (c) => c, label: () => "", ...model };
    this.tip.hidden = true;
    this.layout();
  }

  layout() {
    const { model } = this;
    if (!model || !this.scroller.clientWidth) return;
    const count = model.rows.length;
    this.labels = Array.from({ length: model.columns }, (_, c) => model.label(c));
    this.left = 22 + Math.min(170, Math.max(2, ...model.rows.map((name) => name.length)) * 7);
    this.w = Math.max(NARROWEST, Math.min(WIDEST, (this.scroller.clientWidth - this.left - 2) / model.columns));
    this.h = count > 60 ? 10 : TALLEST;
    this.bottom = Math.ceil(Math.max(0, ...this.labels.map((text) => text.length)) * LETTER) + 12;
    const height = TOP + this.h * count + this.bottom, every = Math.ceil(13 / this.h);
    Object.assign(this.names.style, { width: `${this.left}px`, height: `${height}px` });
    Object.assign(this.cells.style, { width: `${this.w * model.columns + 2}px`, height: `${height}px` });
    this.names.replaceChildren(make("i", { style: "top:0;left:0" }, model.rowTitle), make("i", { style: `top:0;left:${this.left}px` }, model.columnTitle),
      ...model.rows.map((name, r) => make("b", { style: `top:${this.y(r)}px;line-height:${this.h}px`, hidden: r % every && r !== model.chosen?.[0] }, name)));
    this.drawn = null;
    this.paint();
  }

  x(c) { return c * this.w; }
  y(r) { return TOP + (this.model.rows.length - 1 - r) * this.h; }

  soon() { this.asked ??= requestAnimationFrame(() => { this.asked = null; this.paint(); }); }

  // The cells in sight and some around them, unless they are there already.
  paint() {
    const { model, scroller } = this;
    if (!model || !this.w) return;
    const within = (at, most) => Math.max(0, Math.min(most, at)), { top } = scroller.getBoundingClientRect(), rows = model.rows.length;
    const left = scroller.scrollLeft / this.w, right = left + scroller.clientWidth / this.w;
    const up = (-top - TOP) / this.h, down = up + innerHeight / this.h;
    const [from, to] = [within(Math.floor(left), model.columns), within(Math.ceil(right), model.columns)];
    const [first, last] = [within(Math.floor(rows - down), rows), within(Math.ceil(rows - up), rows)];
    if (this.drawn && from >= this.drawn[0] && to <= this.drawn[1] && first >= this.drawn[2] && last <= this.drawn[3]) return;
    this.drawn = [within(from - BEYOND, model.columns), within(to + BEYOND, model.columns), within(first - BEYOND, rows), within(last + BEYOND, rows)];
    const [c0, c1, r0, r1] = this.drawn, parts = [], gap = this.w > 6 ? 1 : 0;
    for (let r = r0; r < r1; r++) {
      for (let c = c0; c < c1; c++) {
        const cell = model.cell(r, c);
        if (!cell) continue;
        const colour = cell.kind === "ok" ? `;background:${model.colour(cell.value)[0]}` : "";
        const mark = cell.ring ? "○" : cell.kind === "unscheduled" ? "·" : cell.kind === "ok" && Math.abs(cell.value) > model.reach ? (cell.value > 0 ? "▲" : "▼") : "";
        parts.push(`<s class="${cell.kind}${cell.faded ? " faded" : ""}${cell.ring ? " ring" : ""}" data-at="${r},${c}" style="left:${this.x(c)}px;top:${this.y(r)}px${colour}">${mark}</s>`);
      }
    }
    // Statuses, colours and numbers alone; words become text below.
    this.cells.innerHTML = parts.join("");
    this.cells.style.setProperty("--w", `${this.w - gap}px`);
    this.cells.style.setProperty("--h", `${this.h - gap}px`);
    const spread = [1, 2, 5, 10, 20, 50, 100, 200].find((every) => every * this.w >= 30) ?? 500;
    for (let c = c0; c < c1; c++) {
      if (model.numbers(c) % spread === 0) this.cells.append(make("i", { style: `left:${this.x(c) + this.w / 2}px` }, String(model.numbers(c))));
      if (this.labels[c]) this.cells.append(make("u", { "data-column": c, style: `left:${this.x(c) + this.w / 2}px;top:${this.y(0) + this.h + 5}px` }, this.labels[c]));
    }
    this.outline();
  }

  // The chosen cell, its row and the text below its column.
  outline() {
    const { chosen } = this.model;
    for (const old of this.scroller.querySelectorAll(".chosen")) old.classList.remove("chosen");
    for (const old of this.cells.querySelectorAll(".row, .here")) old.remove();
    if (!chosen) return;
    const [r, c] = chosen;
    this.cells.append(make("div", { className: "row", style: `top:${this.y(r) - 1}px;height:${this.h + 1}px` }),
      make("div", { className: "here", style: `left:${this.x(c)}px;top:${this.y(r)}px` }));
    for (const found of [this.names.querySelectorAll("b")[r], this.cells.querySelector(`[data-column="${c}"]`)]) found?.classList.add("chosen");
  }

  at(event) { return event.target.dataset.at?.split(",").map(Number); }

  hover(event) {
    if (event.pointerType === "touch") return;
    const at = this.at(event);
    if (at && String(at) !== this.told) this.tell(...at);
    this.told = String(at);
    this.tip.hidden = !at;
    if (!at) return;
    const { offsetWidth: wide, offsetHeight: tall } = this.tip;
    const right = event.clientX + 16 + wide < innerWidth ? event.clientX + 16 : Math.max(4, event.clientX - wide - 16);
    const down = event.clientY + 16 + tall < innerHeight ? event.clientY + 16 : Math.max(4, event.clientY - tall - 12);
    this.tip.style.transform = `translate(${right}px, ${down}px)`;
  }

  tell(r, c) {
    this.tip.replaceChildren(...this.describe(r, c).map(([name, text], i) =>
      make("div", { className: i ? "" : "first" }, ...(name ? [make("span", {}, name), " "] : []), make("bdi", {}, text))));
  }

  go(r, c) {
    this.model.chosen = [r, c];
    this.reveal(c);
    this.outline();
    this.choose(r, c);
  }

  reveal(c) {
    const x = this.x(c), view = this.scroller.clientWidth - this.left, offset = this.scroller.scrollLeft;
    if (x < offset + this.w) this.scroller.scrollLeft = Math.max(0, x - view / 3);
    else if (x + 2 * this.w > offset + view) this.scroller.scrollLeft = x - (2 * view) / 3;
    this.paint();
  }

  key(event) {
    const { model } = this;
    if (!model || event.ctrlKey || event.metaKey || event.altKey) return;
    const there = ([r, c]) => r >= 0 && r < model.rows.length && c >= 0 && c < model.columns && model.cell(r, c);
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0], PageUp: [10, 0], PageDown: [-10, 0] }[event.key];
    const wanted = step || ["Home", "End", "n", "p"].includes(event.key);
    if (!wanted) { if (event.key === "Escape") this.tip.hidden = true; return; }
    event.preventDefault();
    this.tip.hidden = true;
    const cells = (r) => Array.from({ length: model.columns }, (_, c) => [r, c]).filter(there);
    let at = model.chosen ?? cells(0)[0];
    if (!at) return;
    if (step) {
      const [rise, run] = step, stop = model.rows.length - 1;
      let to = [Math.min(stop, Math.max(0, at[0] + rise)), at[1] + run];
      // Texts end at different steps: up and down go to the nearest step of the other row.
      if (!there(to) && rise) to = cells(to[0]).filter(([, c]) => c <= at[1]).pop() ?? cells(to[0])[0];
      if (to && there(to)) at = to;
    } else if (event.key === "Home" || event.key === "End") {
      at = cells(at[0]).at(event.key === "Home" ? 0 : -1) ?? at;
    } else {
      const stands = cells(at[0]).filter((each) => { const cell = model.cell(...each); return !["agree", "unscheduled"].includes(cell.kind) && !cell.faded; });
      const next = event.key === "n" ? stands.find(([, c]) => c > at[1]) : stands.filter(([, c]) => c < at[1]).pop();
      at = next ?? at;
    }
    this.go(...at);
  }
}

// A value on the scale of the page, blue below 0, red above: [its colour, that of letters on it].
function scaleOf(stops, reach) {
  const STEPS = 256;
  const channels = stops.map(([at, hex]) => [at, ...[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))]);
  const table = Array.from({ length: STEPS + 1 }, (_, step) => {
    const t = step / STEPS, k = Math.max(1, channels.findIndex(([at]) => at >= t));
    const [low, high] = [channels[k - 1], channels[k]], share = (t - low[0]) / (high[0] - low[0]);
    const mixed = [1, 2, 3].map((i) => Math.round(low[i] + share * (high[i] - low[i])));
    const light = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2];
    return [`rgb(${mixed.join(" ")})`, light > 140 ? "#101418" : "#ffffff"];
  });
  return (value) => table[Math.round(STEPS * Math.min(1, Math.max(0, (value / reach + 1) / 2)))];
}
