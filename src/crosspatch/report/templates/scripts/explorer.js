// The explorer: one prompt under one mode of patching as a picture, and the chosen cell.
const WAYS = ["component", "direction", "persistence", "schedule"];
const COLUMNS = ["patch", "layer", "step", "position", "token", "clean predicts", "corrupted predicts", "class", "status", "CTS",
  "ΔL clean", "ΔL corrupted", "ΔL patched", "KL clean", "KL patched", "rank of corrupted's token"];
const LONGEST = 32;

class Explorer {
  constructor(root, index, stops) {
    Object.assign(this, { root, index, parts: new Map(), state: { prompt: 0, variant: null, row: null, step: null, kind: "" }, table: false, selects: {} });
    this.scale = scaleOf(stops, index.range);
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.grid = new Grid(this.part("grid"), {
      label: "CTS by layer and step. Arrow keys move from cell to cell, n and p to the next and the previous cell where the models disagree.",
      describe: (r, c) => this.brief(this.lookup(r, c)),
      choose: (r, c) => this.choose(r, c + this.first),
    });
    this.texts = new Texts(this);
    this.fields();
    addEventListener("hashchange", () => this.follow());
    if (!this.follow()) this.open(index.first);
  }

  // ---- what can be chosen

  fields() {
    const { prompts, variants, classes } = this.index, pick = this.part("prompt");
    const groups = new Map();
    prompts.forEach((prompt, place) => {
      if (!groups.has(prompt.domain)) groups.set(prompt.domain, make("optgroup", { label: prompt.domain }));
      const question = prompt.question.replace(/\s+/g, " ");
      groups.get(prompt.domain).append(make("option", { value: String(place) }, question.length > 110 ? question.slice(0, 110) + "…" : question));
    });
    pick.append(...groups.values());
    pick.addEventListener("change", () => this.open(Number(pick.value)));
    const turn = (by) => this.open((this.state.prompt + by + prompts.length) % prompts.length);
    this.part("before").addEventListener("click", () => turn(-1));
    this.part("after").addEventListener("click", () => turn(1));
    this.part("before").closest(".turning").hidden = prompts.length < 2;
    for (const way of WAYS) {
      const values = [...new Set(variants.map((variant) => variant[way]))];
      const select = (this.selects[way] = this.part(way));
      select.append(...values.map((value) => make("option", { value }, value)));
      select.disabled = values.length < 2;
      // Most runs patch all steps, so the list is there only if there is a choice.
      if (way === "schedule" && values.length < 2) select.closest("label").remove();
      select.addEventListener("change", () => this.change(way, select.value));
    }
    const kinds = this.part("class");
    kinds.append(make("option", { value: "" }, "all"), ...classes.map((name) => make("option", { value: name }, name)));
    kinds.addEventListener("change", () => { this.state.kind = kinds.value; this.render(); });
    this.part("formulas").addEventListener("change", () => this.texts.show());
    for (const button of this.root.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => { this.table = button.dataset.view === "table"; this.render(); });
    }
    this.part("csv").addEventListener("click", () => saveCsv(`${this.name()} ${this.state.kind}`, COLUMNS, this.rows(true)));
    // In a notebook's frame, the address would lead to the notebook.
    this.part("link").hidden = location.protocol === "about:";
    this.part("other").addEventListener("change", () => this.texts.other());
  }

  change(way, value) {
    const { variants } = this.index, wanted = { ...variants[this.picture.variant], [way]: value };
    this.state.variant = this.nearest(wanted, (variant) => variant[way] === value)?.variant ?? this.state.variant;
    this.render();
  }

  // Of the pictures of this prompt that `will` accepts, the one whose mode is most like `wanted`.
  nearest(wanted, will = () => true) {
    const { variants } = this.index, alike = (picture) => WAYS.filter((way) => variants[picture.variant][way] === wanted?.[way]).length;
    return this.data.pictures.filter((picture) => will(variants[picture.variant])).sort((a, b) => alike(b) - alike(a))[0] ?? null;
  }

  async open(prompt, wish = {}) {
    const ticket = (this.ticket = {});
    if (!this.parts.has(prompt)) {
      // Only a few prompts are kept unpacked; a page may have hundreds.
      if (this.parts.size > 5) this.parts.delete(this.parts.keys().next().value);
      this.parts.set(prompt, unpacked("prompt-" + prompt));
    }
    const data = await this.parts.get(prompt);
    if (this.ticket !== ticket) return;
    this.data = data;
    Object.assign(this.state, { prompt }, wish);
    this.render();
  }

  // ---- addresses: #prompt=…&component=…&patch=…&step=…

  follow() {
    if (!location.hash.startsWith("#prompt=")) return false;
    const asked = new URLSearchParams(location.hash.slice(1)), { prompts, variants, classes } = this.index;
    const prompt = prompts.findIndex(({ id }) => id === asked.get("prompt"));
    if (prompt < 0) {
      this.say("The address names a prompt that is not in this report.");
      this.lost = !this.data;
      return false;
    }
    const variant = variants.findIndex((each) => WAYS.every((way) => !asked.has(way) || asked.get(way) === each[way]));
    const step = asked.has("step") ? Number(asked.get("step")) : null;
    const kind = classes.includes(asked.get("class")) ? asked.get("class") : "";
    if (variant < 0) this.say("The address names a mode of patching that is not in this report.");
    this.lost = variant < 0;
    this.open(prompt, { variant: Math.max(0, variant), patch: asked.get("patch"), step: Number.isInteger(step) ? step : null, kind });
    // A page that reloads keeps its scroll position.
    if (performance.getEntriesByType("navigation")[0]?.type !== "reload" || this.data) this.root.scrollIntoView();
    return true;
  }

  address() {
    const { state, index, picture } = this, parts = new URLSearchParams({ prompt: index.prompts[state.prompt].id });
    if (picture) {
      const variant = index.variants[picture.variant];
      for (const way of WAYS) if (index.variants.some((each) => each[way] !== variant[way])) parts.set(way, variant[way]);
      if (state.row !== null) { parts.set("patch", picture.rows[state.row].patch); parts.set("step", state.step); }
      if (state.kind) parts.set("class", state.kind);
    }
    return "#" + parts;
  }

  remember() {
    const address = this.address();
    this.part("link").href = address;
    // An error in the address is shown until something else is chosen.
    if (!this.lost) this.say("");
    this.lost = false;
    // The first cell was not chosen by the reader, so it is not in the address.
    if (this.settled) try { history.replaceState(null, "", address); } catch { /* an address that cannot be kept is no loss */ }
    this.settled = true;
  }

  // ---- cells

  lookup(r, c) { return this.places[r * this.grid.model.columns + c]; }

  token(place) {
    const [id, text] = this.index.vocabulary[place];
    if (text === null) return `id ${id}`;
    if (text === "") return "(empty)";
    const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length.toLocaleString("en")} characters)` : text;
    return cut.replace(/[ \n\t\u00a0]/g, (letter) => WHITESPACE[letter]);
  }

  cell(i) {
    const { picture, index, state } = this;
    const kind = index.statuses[picture.status[i]];
    return { kind, value: picture.cts[i], faded: Boolean(state.kind) && index.classes[picture.class[i]] !== state.kind };
  }

  brief(i) {
    const { picture: p, index } = this, r = this.rowOf(i), status = index.statuses[p.status[i]];
    const lines = [["", `${this.title(r)}, step ${p.step[i]}`], ["generated", this.token(p.token_id[i])]];
    if (status === "agree") lines.push(["both predict", this.token(p.clean_token_id[i])]);
    else lines.push(["clean predicts", this.token(p.clean_token_id[i])], ["corrupted predicts", this.token(p.corrupted_token_id[i])],
      ["ΔL", `clean ${shown(p.delta_clean[i])}, corrupted ${shown(p.delta_corrupted[i])}, patched ${shown(p.delta_patched[i])}`]);
    lines.push(["CTS", status === "ok" ? shown(p.cts[i]) : `undefined: ${this.why(status)}`],
      ["KL to corrupted", `clean ${shown(p.kl_clean[i])}, patched ${shown(p.kl_patched[i])} nats`],
      ["rank of corrupted's token", p.rank_corrupted[i] === null ? "unknown" : String(p.rank_corrupted[i])]);
    return lines;
  }

  why(status) {
    return { agree: "agree", small_denominator: "small_denominator, too close to divide", unscheduled: "unscheduled, not patched at this step" }[status] ?? status;
  }

  rowOf(i) { return this.picture.rows.findIndex(({ start, cells }) => i >= start && i < start + cells); }
  title(r) { const row = this.picture.rows[r]; return /^\d/.test(row.name) ? `layer ${row.name}` : row.patch; }

  // All shown cells as rows of a table; tokens are quoted as JSON for a file.
  rows(quoted = false) {
    const { picture: p, index } = this, token = (place) => {
      const [id, text] = index.vocabulary[place];
      return quoted ? (text === null ? `id ${id}` : JSON.stringify(text)) : this.token(place);
    };
    return p.rows.flatMap((row) => Array.from({ length: row.cells }, (_, k) => row.start + k)
      .filter((i) => !this.cell(i).faded)
      .map((i) => [row.patch, row.layer, p.step[i], p.position[i], token(p.token_id[i]), token(p.clean_token_id[i]), token(p.corrupted_token_id[i]),
        index.classes[p.class[i]], index.statuses[p.status[i]], p.cts[i], p.delta_clean[i], p.delta_corrupted[i], p.delta_patched[i],
        p.kl_clean[i], p.kl_patched[i], p.rank_corrupted[i]]));
  }

  name() {
    const variant = this.picture && this.index.variants[this.picture.variant];
    return [this.index.prompts[this.state.prompt].id, ...WAYS.map((way) => variant?.[way])].filter(Boolean).join(" ");
  }

  // ---- drawing

  render() {
    const { state, index, data } = this, prompt = index.prompts[state.prompt];
    const had = this.picture && state.row !== null ? this.picture.rows[state.row].patch : null;
    // A prompt that lacks the chosen mode shows the nearest one; the choice is kept for the next prompt.
    this.picture = this.nearest(index.variants[state.variant ?? 0]);
    this.part("prompt").value = String(state.prompt);
    this.part("class").value = state.kind;
    for (const way of WAYS) if (this.picture) this.selects[way].value = index.variants[this.picture.variant][way];
    this.part("question").textContent = prompt.question;
    this.part("facts").textContent = [prompt.domain, prompt.answer && `right answer ${prompt.answer}`].filter(Boolean).join(" · ");
    for (const button of this.root.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String((button.dataset.view === "table") === this.table));
    for (const part of this.root.querySelectorAll("[data-scores]")) part.hidden = !this.picture;
    this.part("none").hidden = Boolean(this.picture);
    if (this.picture) this.draw(state.patch ?? had);
    delete state.patch;
    this.tell();
    this.texts.show();
    this.remember();
    this.root.dataset.shown = prompt.id;
  }

  draw(patch) {
    const { picture: p, index, state } = this;
    const steps = p.step.reduce(([low, high], step) => [Math.min(low, step), Math.max(high, step)], [Infinity, 0]);
    this.first = steps[0];
    const columns = steps[1] - steps[0] + 1;
    this.places = new Int32Array(p.rows.length * columns).fill(-1);
    p.rows.forEach(({ start, cells }, r) => { for (let i = start; i < start + cells; i++) this.places[r * columns + p.step[i] - this.first] = i; });
    this.settle(patch, columns);
    const heads = p.rows.some((row) => row.layer === null || row.name !== String(row.layer));
    const { moved } = index.variants[p.variant];
    this.part("moved").textContent = moved[0].toUpperCase() + moved.slice(1);
    this.part("ceiling").textContent = p.ceiling ?? "";
    this.part("picture").hidden = this.table;
    this.part("table").hidden = !this.table;
    this.grid.show({
      rows: p.rows.map((row) => row.name),
      columns,
      rowTitle: heads ? "patch" : "layer",
      columnTitle: "generation step",
      numbers: (c) => c + this.first,
      label: (c) => { const i = this.places[state.row * columns + c]; return i < 0 ? "" : this.short(p.token_id[i]); },
      cell: (r, c) => { const i = this.places[r * columns + c]; return i < 0 ? null : this.cell(i); },
      colour: this.scale,
      reach: index.range,
      chosen: state.row === null ? null : [state.row, state.step - this.first],
    });
    this.part("notes").textContent = p.notes.join(" ");
    if (this.table) this.tables();
  }

  short(place) { const text = this.token(place); return text.length > 12 ? text.slice(0, 11) + "…" : text; }

  // The chosen cell: the previous or requested one if it is there, else the one with the highest CTS in the requested row, or in the second highest.
  settle(patch, columns) {
    const { picture: p, index, state } = this, ok = index.statuses.indexOf("ok");
    const row = p.rows.findIndex((each) => each.patch === patch);
    const c = state.step === null ? -1 : state.step - this.first;
    if (row >= 0 && c >= 0 && c < columns && this.places[row * columns + c] >= 0) { state.row = row; return; }
    if (state.patch && (row < 0 || state.step !== null)) { this.say("The address names a cell that is not there; another one is shown."); this.lost = true; }
    const r = row >= 0 ? row : Math.max(0, p.rows.length - 2), { start, cells } = p.rows[r];
    let best = start;
    for (let i = start; i < start + cells; i++) if (p.status[i] === ok && (p.status[best] !== ok || p.cts[i] > p.cts[best])) best = i;
    Object.assign(state, { row: r, step: p.step[best] });
  }

  choose(row, step) {
    const other = row !== this.state.row;
    Object.assign(this.state, { row, step });
    if (other) this.grid.label();
    this.tell();
    this.texts.show();
    this.remember();
  }

  // The description of the chosen cell.
  tell() {
    const { picture, state } = this;
    if (!picture) return;
    this.part("row").textContent = this.title(state.row);
    const i = this.places[state.row * this.grid.model.columns + state.step - this.first];
    this.part("cell").replaceChildren(...this.brief(i).map(([name, words]) =>
      make("div", { className: name ? "" : "first" }, ...(name ? [make("dt", {}, name)] : []), make("dd", {}, make("bdi", {}, words)))));
  }

  tables() {
    const { picture: p, index } = this;
    const rates = { rate: percent };
    showTable(this.part("layers"), this.name() + " layers", ["patch", ...index.profile], p.rows.map((row) => [row.patch, ...row.profile]), rates);
    showTable(this.part("cells"), this.name(), COLUMNS, this.rows());
  }

  say(words) { this.part("said").textContent = words; }
}

const explorerRoot = document.getElementById("explorer-root");
if (explorerRoot) unpacked("explorer").then((index) => { window.explorer = new Explorer(explorerRoot, index, STOPS); });
