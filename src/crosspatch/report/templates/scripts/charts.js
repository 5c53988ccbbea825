// Charts of lines. Plotly is unpacked when the first chart is about to be scrolled into view.
let plotly = null;
function library() {
  plotly ??= unpack("plotly").then((source) => document.head.append(make("script", { textContent: source })));
  return plotly;
}

// Charts have the colours of the page, light or dark.
function dress(layout) {
  const [ink, soft, rule, card] = ["--ink", "--soft", "--rule", "--card"].map(colour);
  layout.font = { ...layout.font, color: ink };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, bordercolor: soft, font: { size: 12, color: ink } };
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) Object.assign(layout[key], { gridcolor: rule, linecolor: rule, zerolinecolor: soft });
  }
  return layout;
}

// The buttons are listed, because plotly's default set has one that uploads the chart to a server.
const CONFIG = {
  responsive: true,
  displaylogo: false,
  plotlyServerURL: "",
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
};
async function draw(place) {
  if (place.drawing) return place.drawing;
  place.drawing = (async () => {
    const [{ figure }] = await Promise.all([unpacked(place.id), library()]);
    place.figure = figure;
    await Plotly.newPlot(place, figure.data, dress(figure.layout), CONFIG);
    place.dataset.drawn = "yes";
  })();
  return place.drawing;
}

// Charts are drawn shortly before they scroll into view, so the page opens at once.
const charts = [...document.querySelectorAll(".chart")];
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "500px" });
charts.forEach((place) => near.observe(place));
// Other charts are drawn when the browser is idle, so printing does not wait for them.
const idle = () => new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done));
const drawAll = async () => { for (const place of charts) { await idle(); await draw(place); } };
addEventListener("load", () => setTimeout(drawAll, 3000));
// The width of paper in pixels, to which wider charts are scaled.
const PAPER = 640;
addEventListener("beforeprint", () => {
  for (const place of charts) {
    draw(place);
    place.style.setProperty("--paper", Math.min(1, PAPER / place.offsetWidth));
  }
});
darkness.addEventListener("change", () => {
  for (const place of charts) if (place.figure) Plotly.relayout(place, dress(place.layout));
});

// The table of each chart is made when it is unfolded.
for (const fold of document.querySelectorAll("details[data-table]")) {
  fold.addEventListener("toggle", async () => {
    if (!fold.open || fold.dataset.made) return;
    fold.dataset.made = "yes";
    const { table } = await unpacked(fold.dataset.table);
    showTable(fold.querySelector("div"), table.name, table.columns, table.rows);
  });
}
