// A heatmap with an element for each cell, rows upwards. Cells are made in tiles, and in scrolling a few tiles per frame,
// so the page stays responsive: tiles in view first, then their neighbours. The style is in report.css.
// Cells are larger on touch screens; elsewhere those of many rows are low, so that the texts are in view too.
const [NARROWEST, WIDEST, TALL] = matchMedia("(pointer: coarse)").matches ? [16, 40, 18] : [12, 40, 12];
const TOP = 32, LETTER = 6.4;
// Rows and columns of a tile, and tiles made per frame.
const TILE = 16, BATCH = 4;

class Grid {
  // `describe` gives the lines about a cell as [name, text]; `choose` is called for a cell that was clicked or reached by keys.
  constructor(root, { label, describe, choose }) {
    Object.assign(this, { describe, choose, model: null, tiles: new Map() });
    this.cells = make("div", { className: "cells" });
    this.names = make("div", { className: "rows" });
    this.scroller = make("div", { className: "grid", tabIndex: 0, role: "application", "aria-roledescription": "heatmap", "aria-label": label }, this.names, this.cells);
    this.row = make("div", { className: "row" });
    this.here = make("div", { className: "here" });
    this.tip = make("div", { className: "tip", role: "tooltip", hidden: true });
    root.replaceChildren(this.scroller);
    document.body.append(this.tip);
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("blur", () => { this.tip.hidden = true; });
    this.cells.addEventListener("pointermove", (event) => this.hover(event));
    this.cells.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.cells.addEventListener("click", (event) => { const at = this.at(event); if (at) this.go(...at); });
    for (const [where, what] of [[this.scroller, "scroll"], [window, "scroll"], [window, "resize"]]) where.addEventListener(what, () => this.soon(), { passive: true });
    addEventListener("beforeprint", () => this.paint(true));
    // The height follows from the rows and labels, so only a change of width needs a new layout.
    new ResizeObserver(() => { if (this.scroller.clientWidth !== this.width) this.layout(); }).observe(this.scroller);
  }

  // rows: names, lowest first. columns: how many. numbers(c): the number above a column, or null; label(c): the text below it.
  // cell(r, c): null, or { kind, value, faded, ring }. colour(value), reach: how a value is drawn, and where marks begin.
  show(model) {
    this.model = { numbers: (c) => c, label: () => "", ...model };
    this.tip.hidden = true;
    this.told = null;
    this.layout(true);
  }

  layout(revealing = false) {
    const { model, scroller } = this, width = (this.width = scroller.clientWidth);
    if (!model || !width) return;
    const count = model.rows.length;
    this.h = count > 60 ? 10 : count > 24 ? TALL : count > 8 ? 18 : 24;
    const every = Math.ceil(12 / this.h);
    this.left = 22 + Math.min(170, Math.max(2, ...model.rows.map((name) => name.length)) * 7);
    this.w = Math.max(NARROWEST, Math.min(WIDEST, (width - this.left - 2) / model.columns));
    for (const [name, size] of [["--w", this.w], ["--h", this.h]]) scroller.style.setProperty(name, `${size}px`);
    this.names.style.width = `${this.left}px`;
    this.cells.style.width = `${this.w * model.columns + 2}px`;
    this.names.replaceChildren(make("i", { style: "top:0;left:0" }, model.rowTitle), make("i", { style: `top:0;left:${this.left}px` }, model.columnTitle),
      ...model.rows.map((name, r) => make("b", { style: `top:${this.y(r)}px`, className: r % every ? "between" : "" }, name)));
    this.cells.replaceChildren(this.row, this.here);
    this.tiles.clear();
    if (revealing && model.chosen) this.reveal(model.chosen[1]);
    this.label();
  }

  // The labels below the columns, which belong to the chosen row.
  label() {
    const { model } = this;
    this.labels = Array.from({ length: model.columns }, (_, c) => model.label(c));
    const height = TOP + this.h * model.rows.length + Math.ceil(Math.max(0, ...this.labels.map((text) => text.length)) * LETTER) + 12;
    for (const side of [this.names, this.cells]) side.style.height = `${height}px`;
    for (const [key, tile] of this.tiles) if (key.startsWith("labels")) { tile.remove(); this.tiles.delete(key); }
    this.paint(true);
  }

  x(c) { return c * this.w; }
  y(r) { return TOP + (this.model.rows.length - 1 - r) * this.h; }

  soon() { this.asked ??= requestAnimationFrame(() => { this.asked = null; this.paint(); }); }

  // Make some missing tiles in view or next to it, or `all` in view, and remove all others.
  paint(all = false) {
    const { model, scroller, tiles } = this;
    if (!model || !this.width) return;
    const within = (at, most) => Math.max(0, Math.min(Math.ceil(most / TILE) - 1, Math.floor(at / TILE))), rows = model.rows.length;
    const left = scroller.scrollLeft / this.w, right = left + this.width / this.w;
    const up = rows - (-scroller.getBoundingClientRect().top - TOP) / this.h, down = up - innerHeight / this.h;
    const [c0, c1, r0, r1] = [within(left, model.columns), within(right, model.columns), within(down, rows), within(up, rows)];
    const wanted = new Map();
    for (let c = c0 - 1; c <= c1 + 1; c++) {
      if (c < 0 || c * TILE >= model.columns) continue;
      const beside = c < c0 || c > c1;
      wanted.set(`labels,${c}`, [beside, () => this.columns(c * TILE)]);
      for (let r = r0 - 1; r <= r1 + 1; r++) {
        if (r >= 0 && r * TILE < rows) wanted.set(`${r},${c}`, [beside || r < r0 || r > r1, () => this.tile(r * TILE, c * TILE)]);
      }
    }
    for (const [key, tile] of tiles) if (!wanted.has(key)) { tile.remove(); tiles.delete(key); }
    const lacking = [...wanted].filter(([key]) => !tiles.has(key)).sort(([, [a]], [, [b]]) => a - b);
    const most = all ? lacking.filter(([, [beside]]) => !beside).length : BATCH;
    for (const [key, [, made]] of lacking.slice(0, most)) {
      tiles.set(key, made());
      this.cells.append(tiles.get(key));
    }
    if (lacking.length) this.outline();
    if (lacking.length > most) this.soon();
  }

  // A tile of cells, its rows downwards; an element without a class is no cell.
  tile(low, from) {
    const { model } = this, high = Math.min(low + TILE, model.rows.length) - 1, to = Math.min(from + TILE, model.columns), parts = [];
    for (let r = high; r >= low; r--) {
      for (let c = from; c < to; c++) {
        const cell = model.cell(r, c);
        if (!cell) { parts.push("<s></s>"); continue; }
        const { kind, value, faded, ring } = cell, ground = kind === "ok" ? ` style="background:${model.colour(value)[0]}"` : "";
        const mark = ring ? "○" : kind === "unscheduled" ? "·" : kind === "ok" && Math.abs(value) > model.reach ? (value > 0 ? "▲" : "▼") : "";
        parts.push(`<s class="${kind}${faded ? " faded" : ""}${ring ? " ring" : ""}"${ground}>${mark}</s>`);
      }
    }
    // The HTML has statuses, colours and marks only, never generated text.
    return make("div", { className: "tile", innerHTML: parts.join(""),
      style: `left:${this.x(from)}px;top:${this.y(high)}px;grid-template-columns:repeat(${to - from},var(--w))` });
  }

  // The numbers above the columns of a tile and the labels below them.
  columns(from) {
    const { model } = this, part = make("div", { className: "labels" }), place = (c) => this.x(c) + this.w / 2;
    const spread = [1, 2, 5, 10, 20, 50, 100, 200].find((every) => every * this.w >= 30) ?? 500;
    for (let c = from; c < Math.min(from + TILE, model.columns); c++) {
      if (model.numbers(c) % spread === 0) part.append(make("i", { style: `left:${place(c)}px` }, String(model.numbers(c))));
      if (this.labels[c]) part.append(make("u", { "data-column": c, style: `left:${place(c)}px;top:${this.y(0) + this.h + 5}px` }, this.labels[c]));
    }
    return part;
  }

  // Outline the chosen cell and its row, and emphasise the label of its column.
  outline() {
    const { chosen } = this.model;
    for (const old of this.scroller.querySelectorAll(".chosen")) old.classList.remove("chosen");
    this.row.hidden = this.here.hidden = !chosen;
    if (!chosen) return;
    const [r, c] = chosen;
    this.row.style.top = `${this.y(r) - 1}px`;
    Object.assign(this.here.style, { left: `${this.x(c)}px`, top: `${this.y(r)}px` });
    for (const found of [this.names.querySelectorAll("b")[r], this.cells.querySelector(`[data-column="${c}"]`)]) found?.classList.add("chosen");
  }

  // The row and the column under the pointer; null if there is no cell.
  at({ clientX, clientY }) {
    const { model } = this, box = this.cells.getBoundingClientRect();
    const r = model.rows.length - 1 - Math.floor((clientY - box.top - TOP) / this.h), c = Math.floor((clientX - box.left) / this.w);
    return r >= 0 && r < model.rows.length && c >= 0 && c < model.columns && model.cell(r, c) ? [r, c] : null;
  }

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
      // Texts end at different steps, so up and down go to the nearest step of the other row.
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

// Maps a value to [background, text colour] on the scale of the page, blue below 0 and red above.
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
