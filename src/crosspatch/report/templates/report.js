"use strict";
// One patched text at a time, chosen by the list above it; without script all stand below one another.
for (const select of document.querySelectorAll(".answers select")) {
  const choices = select.parentElement.querySelectorAll(".choice");
  const show = () => choices.forEach((choice, place) => { choice.hidden = place !== select.selectedIndex; });
  for (const choice of choices) choice.querySelector(".patch").hidden = true;
  select.hidden = false;
  select.addEventListener("change", show);
  show();
}

// Charts take their colours from the page, in light and in dark.
function dress(figure) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [ink, soft, rule, card] = ["--ink", "--soft", "--rule", "--card"].map(colour);
  const layout = figure.layout;
  layout.font = { ...layout.font, color: ink };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, bordercolor: soft, font: { size: 12, color: ink } };
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) Object.assign(layout[key], { gridcolor: rule, linecolor: rule, zerolinecolor: soft });
  }
  for (const trace of figure.data) {
    if (trace.meta && trace.meta.role === "undefined") {
      const [agree, small] = [colour("--agree"), colour("--small")];
      trace.colorscale = [[0, agree], [0.5, agree], [0.5, small], [1, small]];
    }
    if (trace.meta && trace.meta.role === "agree") trace.marker.color = colour("--agree");
    if (trace.meta && trace.meta.role === "small") trace.marker.color = trace.marker.line.color = colour("--mark");
  }
  return figure;
}

// The buttons are named one by one: plotly's own set has one that uploads the chart to a server.
const CONFIG = {
  responsive: true,
  displaylogo: false,
  plotlyServerURL: "",
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
};
function draw(element) {
  if (element.dataset.drawn) return;
  element.dataset.drawn = "yes";
  element.figure = JSON.parse(document.getElementById("data-" + element.id).textContent);
  const { data, layout } = dress(element.figure);
  Plotly.newPlot(element, data, layout, CONFIG);
}

// Drawn when they come near, so that a page of many prompts opens at once.
const charts = [...document.querySelectorAll(".chart")];
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "800px" });
charts.forEach((element) => near.observe(element));
addEventListener("beforeprint", () => charts.forEach(draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const element of charts) {
    if (element.figure) { const { data, layout } = dress(element.figure); Plotly.react(element, data, layout, CONFIG); }
  }
});
