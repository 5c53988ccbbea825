// A picture of rows and columns on a canvas as wide as the screen, however many columns there are: what is scrolled out
// of sight is not drawn. Rows run upwards.
const MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
const SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
// Wider for fingers.
const [NARROWEST, WIDEST] = matchMedia("(pointer: coarse)").matches ? [16, 26] : [12, 26];
const TALLEST = 18;

class Grid {
  // `describe` gives the lines about a cell as [name, text], `choose` is told of a cell that was clicked or walked to.
  constructor(root, { label, describe, choose }) {
    Object.assign(this, { describe, choose, model: null, hovered: null });
    this.stage = make("div", { className: "stage" });
    this.canvas = make("canvas", {});
    this.scroller = make("div", { className: "grid", tabIndex: 0, role: "application", "aria-roledescription": "heatmap", "aria-label": label }, this.stage);
    this.tip = make("div", { className: "tip", role: "tooltip", hidden: true });
    this.stage.append(this.canvas);
    root.replaceChildren(this.scroller);
    document.body.append(this.tip);
    this.scroller.addEventListener("scroll", () => this.soon(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("blur", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => { this.hovered = null; this.tip.hidden = true; this.soon(); });
    this.canvas.addEventListener("click", (event) => { const at = this.at(event); if (at) this.go(...at); });
    new ResizeObserver(() => this.layout()).observe(this.scroller);
    darkness.addEventListener("change", () => this.soon());
  }

  // rows: names, lowest first. columns: how many. numbers(c): what stands above a column, or null; label(c): below it.
  // cell(r, c): null, or { kind, value, faded, ring }. colour(value), reach: how a value is drawn, and where marks begin.
  show(model) {
    this.model = { numbers: (c) => c, label: () => "", ...model };
    this.hovered = null;
    this.tip.hidden = true;
    this.layout();
  }

  layout() {
    const { model } = this;
    if (!model || !this.scroller.clientWidth) return;
    const pen = this.canvas.getContext("2d");
    pen.font = `12px ${SANS}`;
    this.left = 22 + Math.min(170, Math.max(12, ...model.rows.map((name) => pen.measureText(name).width)));
    this.width = this.scroller.clientWidth;
    const room = (this.width - this.left - 2) / model.columns;
    this.w = Math.max(NARROWEST, Math.min(WIDEST, room));
    this.h = model.rows.length > 60 ? 10 : TALLEST;
    this.top = 32;
    pen.font = `10.5px ${MONO}`;
    const labels = Array.from({ length: model.columns }, (_, c) => model.label(c));
    this.bottom = Math.ceil(Math.max(0, ...labels.map((text) => pen.measureText(text).width))) + 12;
    this.labels = labels;
    this.height = this.top + this.h * model.rows.length + this.bottom;
    // Browsers draw nothing on a canvas that is too high or too large.
    const scale = Math.min(devicePixelRatio || 1, 3, 16_000 / this.height, Math.sqrt(16e6 / (this.width * this.height)));
    this.stage.style.width = `${Math.max(this.left + this.w * model.columns + 2, 0)}px`;
    this.stage.style.height = `${this.height}px`;
    Object.assign(this.canvas.style, { width: `${this.width}px`, height: `${this.height}px` });
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.scale = scale;
    this.paint();
  }

  soon() {
    this.asked ??= requestAnimationFrame(() => { this.asked = null; this.paint(); });
  }

  paint() {
    const { model, w, h, left, top } = this;
    if (!model || !this.width) return;
    const pen = this.canvas.getContext("2d"), count = model.rows.length, offset = this.scroller.scrollLeft;
    const [ink, soft, agree, small, mark, page] = ["--ink", "--soft", "--agree", "--small", "--mark", "--page"].map(colour);
    const hatch = this.hatch(pen, small, mark);
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const from = Math.max(0, Math.floor(offset / w)), to = Math.min(model.columns, Math.ceil((offset + this.width - left) / w));
    const x = (c) => left + c * w - offset, y = (r) => top + (count - 1 - r) * h;
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, this.width - left, this.height);
    pen.clip();
    const gap = w > 6 ? 1 : 0;
    for (let r = 0; r < count; r++) {
      for (let c = from; c < to; c++) {
        const cell = model.cell(r, c);
        if (!cell) continue;
        pen.globalAlpha = cell.faded ? 0.13 : 1;
        if (cell.kind === "unscheduled") {
          pen.fillStyle = soft;
          pen.fillRect(x(c) + w / 2 - 1, y(r) + h / 2 - 1, 2, 2);
          continue;
        }
        pen.fillStyle = cell.kind === "agree" ? agree : cell.kind === "small_denominator" ? hatch : model.colour(cell.value)[0];
        pen.fillRect(x(c), y(r), w - gap, h - gap);
        if (cell.kind === "ok" && Math.abs(cell.value) > model.reach) this.triangle(pen, x(c) + (w - gap) / 2, y(r) + (h - gap) / 2, Math.sign(cell.value));
        if (cell.ring) this.ring(pen, x(c) + (w - gap) / 2, y(r) + (h - gap) / 2);
      }
    }
    pen.globalAlpha = 1;
    const outline = (at, line, colours) => {
      if (!at) return;
      const [r, c] = at;
      colours.forEach((each, i) => {
        pen.strokeStyle = each;
        pen.lineWidth = line;
        pen.strokeRect(x(c) - 1 - i * line, y(r) - 1 - i * line, w - gap + 2 + 2 * i * line, h - gap + 2 + 2 * i * line);
      });
    };
    if (model.chosen) {
      const [r] = model.chosen;
      pen.strokeStyle = soft;
      pen.lineWidth = 1;
      pen.strokeRect(left - offset - 0.5, y(r) - 1.5, w * model.columns, h + 1);
    }
    outline(this.hovered, 1, [ink]);
    outline(model.chosen, 2, [page, ink]);
    this.numbers(pen, x, from, to, soft);
    this.words(pen, x, from, to, ink, soft);
    pen.restore();
    pen.font = `12px ${SANS}`;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const every = Math.ceil(13 / h);
    model.rows.forEach((name, r) => {
      const own = model.chosen && model.chosen[0] === r;
      if (r % every && !own) return;
      pen.fillStyle = own ? ink : soft;
      pen.font = `${own ? "bold " : ""}12px ${SANS}`;
      pen.fillText(name, left - 7, y(r) + h / 2, left - 10);
    });
    pen.fillStyle = soft;
    pen.font = `11px ${SANS}`;
    pen.textAlign = "left";
    pen.fillText(model.rowTitle ?? "", 0, 9);
    pen.fillText(model.columnTitle ?? "", left, 9);
  }

  numbers(pen, x, from, to, soft) {
    const spread = [1, 2, 5, 10, 20, 50, 100, 200].find((every) => every * this.w >= 30) ?? 500;
    pen.fillStyle = soft;
    pen.font = `11px ${SANS}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (let c = from; c < to; c++) {
      const number = this.model.numbers(c);
      if (number % spread === 0) pen.fillText(number, x(c) + this.w / 2, 24);
    }
  }

  words(pen, x, from, to, ink, soft) {
    const chosen = this.model.chosen?.[1];
    pen.font = `10.5px ${MONO}`;
    pen.textAlign = "right";
    for (let c = from; c < to; c++) {
      if (!this.labels[c]) continue;
      pen.save();
      pen.translate(x(c) + this.w / 2, this.height - this.bottom + 5);
      pen.rotate(-Math.PI / 2);
      pen.fillStyle = c === chosen ? ink : soft;
      pen.fillText(this.labels[c], 0, 0);
      pen.restore();
    }
  }

  triangle(pen, x, y, way) {
    const size = Math.min(this.w, this.h) * 0.32;
    pen.beginPath();
    pen.moveTo(x - size, y + way * size * 0.75);
    pen.lineTo(x + size, y + way * size * 0.75);
    pen.lineTo(x, y - way * size * 0.85);
    pen.closePath();
    pen.fillStyle = "#ffffff";
    pen.strokeStyle = "#101418";
    pen.lineWidth = 1;
    pen.fill();
    pen.stroke();
  }

  ring(pen, x, y) {
    for (const [line, look] of [[3, "#ffffff"], [1.4, "#101418"]]) {
      pen.beginPath();
      pen.arc(x, y, Math.min(this.w, this.h) * 0.26, 0, 2 * Math.PI);
      pen.strokeStyle = look;
      pen.lineWidth = line;
      pen.stroke();
    }
  }

  hatch(pen, ground, line) {
    const tile = make("canvas", { width: 12, height: 12 }), draw = tile.getContext("2d");
    draw.fillStyle = ground;
    draw.fillRect(0, 0, 12, 12);
    draw.strokeStyle = line;
    draw.lineWidth = 1.6;
    for (const shift of [-6, 0, 6, 12]) { draw.beginPath(); draw.moveTo(shift, 12); draw.lineTo(shift + 12, 0); draw.stroke(); }
    const pattern = pen.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(0.5));
    return pattern;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect(), { model } = this;
    if (!model) return null;
    const from = event.clientX - box.left, x = from - this.left + this.scroller.scrollLeft, y = event.clientY - box.top - this.top;
    const r = model.rows.length - 1 - Math.floor(y / this.h), c = Math.floor(x / this.w);
    const inside = from >= this.left && r >= 0 && r < model.rows.length && c >= 0 && c < model.columns;
    return inside && model.cell(r, c) ? [r, c] : null;
  }

  hover(event) {
    if (event.pointerType === "touch") return;
    const at = this.at(event);
    if (String(at) !== String(this.hovered)) {
      this.hovered = at;
      if (at) this.tell(...at);
      this.soon();
    }
    this.canvas.style.cursor = at ? "pointer" : "";
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
    this.soon();
    this.choose(r, c);
  }

  reveal(c) {
    const x = c * this.w, view = this.width - this.left, offset = this.scroller.scrollLeft;
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
