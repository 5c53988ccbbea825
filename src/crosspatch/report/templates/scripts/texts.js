// The texts of the explorer's prompt: of the clean model, of the corrupted model, and of the chosen row, whose tokens
// have the colours of their scores.
const WHITESPACE = { " ": "␣", "\n": "↵", "\t": "⇥", "\u00a0": "␣" };

class Texts {
  constructor(explorer) {
    this.explorer = explorer;
    this.formula = new RegExp(explorer.index.formula, "g");
  }

  show() {
    const { data, state, picture } = this.explorer, find = (condition) => data.texts.find((text) => text.condition === condition && text.patch === null);
    const clean = find("clean"), corrupted = find("corrupted");
    const whole = clean ? clean.shared + clean.own : null;
    this.write("clean", clean, clean && this.parted(whole, corrupted ? corrupted.shared.length : null));
    this.write("corrupted", corrupted, corrupted && this.parted(corrupted.shared + corrupted.own, whole === null ? null : corrupted.shared.length));
    if (picture && state.row !== null) {
      const row = picture.rows[state.row], text = row.text === null ? null : data.texts[row.text];
      // A row with the clean text diverges nowhere, although its tokens end with a token that has no letters.
      const other = text?.likeness.startsWith("the clean") ? null : whole;
      this.write("patched", text ?? {}, this.tokens(row, other));
    }
    const own = picture && state.row !== null ? picture.rows[state.row].text : null;
    const others = data.texts.map((text, place) => [text, place]).filter(([text, place]) =>
      place !== own && text !== clean && text !== corrupted && (text.shared || text.own));
    this.explorer.part("others").hidden = !others.length;
    const select = this.explorer.part("other"), before = select.selectedOptions[0]?.dataset.name;
    select.replaceChildren(...others.map(([text, place]) => {
      const name = [text.patch, text.condition].filter(Boolean).join(", ");
      return make("option", { value: String(place), "data-name": name, selected: name === before }, `${name}: ${text.likeness}`);
    }));
    this.other();
  }

  other() {
    const text = this.explorer.data.texts[Number(this.explorer.part("other").value)];
    if (text) this.write("another", text, this.parted(text.shared + text.own, text.shared.length));
  }

  write(part, text, nodes) {
    const place = this.explorer.part(part);
    if (!text || !nodes) { place.replaceChildren(make("p", { className: "none" }, "No text.")); return; }
    const chips = [];
    if (text.verdict) chips.push(make("span", { className: "chip " + text.verdict }, text.verdict));
    if (text.operation) chips.push(make("span", { className: "chip op-" + text.operation }, "operation: " + text.operation));
    for (const flag of text.health ?? []) chips.push(make("span", { className: "chip flag" }, flag));
    const likeness = text.patch == null && ["clean", "corrupted"].includes(text.condition) ? null : text.likeness;
    const length = text.tokens == null ? "" : `${shown(text.tokens)} tokens${text.cut ? ", cut at the limit" : ""}`;
    place.replaceChildren(
      make("p", { className: "chips" }, ...chips, make("span", { className: "muted" }, [length, likeness].filter(Boolean).join(", "))),
      make("pre", { tabIndex: 0, role: "region", "aria-label": part }, make("bdi", {}, ...nodes)),
    );
  }

  // A text with a mark where it diverges from the other one; the text before the mark is grey.
  parted(text, at) {
    if (at === null) return this.running(text);
    const mark = at < text.length ? [this.mark()] : [];
    return [make("span", { className: "shared" }, ...this.running(text.slice(0, at))), ...mark, ...this.running(text.slice(at))];
  }

  mark() { return make("span", { className: "parting", title: "from here on the texts differ", role: "img", "aria-label": "from here on the texts differ" }); }

  running(text) {
    if (!this.explorer.part("formulas").checked) return [text];
    const nodes = [];
    let last = 0;
    for (const match of text.matchAll(this.formula)) {
      const tree = this.explorer.index.formulas[match[0]];
      if (!tree) continue;
      nodes.push(text.slice(last, match.index), mathml(tree));
      last = match.index + match[0].length;
    }
    return [...nodes, text.slice(last)];
  }

  // The tokens of one row, each in the colour of its score, with drawn formulas if the box is ticked.
  tokens({ start, cells, letters }, clean) {
    const { picture: p, index } = this.explorer, nodes = [], pieces = [];
    let whole = "", parted = clean === null ? -1 : null;
    for (let i = start; i < start + cells; i++) {
      const [id, known] = index.vocabulary[p.token_id[i]], text = letters[i - start] ?? known ?? `[id ${id}]`;
      pieces.push({ i, from: whole.length, to: whole.length + text.length, text });
      whole += text;
      if (parted === null && !clean.startsWith(whole)) parted = i;
    }
    const drawn = this.explorer.part("formulas").checked
      ? [...whole.matchAll(this.formula)].filter((match) => index.formulas[match[0]]).map((match) => ({ from: match.index, to: match.index + match[0].length, tree: index.formulas[match[0]] }))
      : [];
    let at = 0, k = 0;
    while (k < pieces.length) {
      const { i, from, to } = pieces[k], next = drawn[0];
      if (i === parted && at <= from) nodes.push(this.mark());
      if (next && next.from < to) {
        if (at < next.from) nodes.push(this.span(i, whole.slice(Math.max(at, from), next.from)));
        const inside = pieces.filter((piece) => piece.to > next.from && piece.from < next.to).map((piece) => piece.i);
        if (inside.includes(parted) && parted !== i) nodes.push(this.mark());
        nodes.push(this.span(this.strongest(inside), mathml(next.tree), inside));
        at = next.to;
        drawn.shift();
        while (k < pieces.length && pieces[k].to <= at) k++;
        continue;
      }
      nodes.push(this.span(i, whole.slice(Math.max(at, from), to)));
      at = to;
      k++;
    }
    return nodes;
  }

  strongest(cells) {
    const weight = (i) => { const value = this.explorer.picture.cts[i]; return value === null ? -1 : Math.abs(value); };
    return cells.reduce((best, i) => (weight(i) > weight(best) ? i : best));
  }

  // `formula` has the cells of the tokens of a drawn formula, which has the colour of the strongest one, `i`.
  span(i, content, formula = null) {
    const { explorer } = this, { picture: p, state } = explorer, { kind, value, faded } = explorer.cell(i);
    const chosen = (formula ?? [i]).some((each) => p.step[each] === state.step);
    const blank = typeof content === "string" && !content.trim() && kind !== "agree";
    const shownText = blank ? content.replace(/[ \n\t\u00a0]/g, (letter) => (letter === "\n" ? "↵\n" : WHITESPACE[letter])) : content;
    const span = make("span", { className: ["token", kind, chosen && "chosen", faded && "faded", formula && "formula"].filter(Boolean).join(" ") }, shownText);
    if (kind === "ok" && !faded) [span.style.background, span.style.color] = explorer.scale(value);
    span.title = kind === "ok" ? `CTS ${shown(value)}` : explorer.why(kind);
    span.addEventListener("click", () => explorer.grid.go(state.row, p.step[i] - explorer.first));
    return span;
  }
}

// Builds a tree of MathML; the report allows only known elements and attributes in it (see formulas.py).
const MATHML = make("div", { innerHTML: "<math></math>" }).firstChild.namespaceURI;
function mathml([tag, attributes, children]) {
  const element = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (typeof child === "string" ? child : mathml(child))));
  return element;
}
