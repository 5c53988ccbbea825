// The heatmap of heads: layers upwards, heads rightwards.
class Heads {
  constructor(root, maps, stops) {
    Object.assign(this, { maps });
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    const select = this.part("map");
    select.append(...maps.map(({ title }, place) => make("option", { value: String(place) }, title)));
    select.closest("label").hidden = maps.length < 2;
    select.addEventListener("change", () => this.open(Number(select.value), stops));
    this.grid = new Grid(this.part("grid"), {
      label: "Recovered fraction of each head alone. Arrow keys move from head to head.",
      describe: (r, c) => this.brief(r, c),
      choose: (r, c) => { this.part("said").textContent = this.brief(r, c).map(([name, text]) => [name, text].filter(Boolean).join(" ")).join(", "); },
    });
    this.open(0, stops);
  }

  open(place, stops) {
    const map = (this.map = this.maps[place]), scale = scaleOf(stops, map.reach);
    const at = new Map(map.cells.map((cell) => [`${cell[0]},${cell[1]}`, cell]));
    this.find = (r, c) => at.get(`${map.layers[r]},${map.heads[c]}`);
    // If there is a list of pictures, the list has the title.
    this.part("title").textContent = this.maps.length > 1 ? "" : map.title;
    this.part("notes").textContent = map.notes.join(" ");
    this.part("said").textContent = "";
    this.part("reach").textContent = `−${shown(map.reach, 2)} to ${shown(map.reach, 2)}`;
    this.grid.show({
      rows: map.layers.map(String),
      columns: map.heads.length,
      rowTitle: "layer",
      columnTitle: "head",
      numbers: (c) => map.heads[c],
      cell: (r, c) => { const cell = this.find(r, c); return cell ? { kind: "ok", value: cell[2], ring: cell[3] } : null; },
      colour: scale,
      reach: map.reach,
      chosen: null,
    });
    showTable(this.part("table"), map.title, ["layer", "head", "recovered fraction", "measured"], map.cells.map(([layer, head, recovered, exact]) => [layer, head, recovered, exact ? "yes" : "estimated"]));
  }

  brief(r, c) {
    const [layer, head, recovered, exact] = this.find(r, c);
    return [["", `layer ${layer}, head ${head}`], ["recovered fraction", shown(recovered)], ["", exact ? "measured" : "estimated by gradients"]];
  }
}

const headsRoot = document.getElementById("heads-root");
if (headsRoot) unpacked("heads").then((maps) => new Heads(headsRoot, maps, STOPS));
