// Shared by all parts of the page: elements, data, tables, downloads. Generated text becomes text nodes only.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const dash = "–";
const signed = (text) => String(text).replaceAll("-", "−");
function shown(value, digits = 3) {
  if (value === null || value === undefined) return dash;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return signed(value.toLocaleString("en"));
  // 7.04e−6, not 0.00000704.
  return signed(Math.abs(value) < 1e-3 ? Number(value.toPrecision(digits)).toExponential() : Number(value.toPrecision(digits)));
}
const percent = (value) => (value === null ? dash : signed((100 * value).toFixed(1)) + " %");

// Data of the page: JSON or a script, deflated and in base64.
async function unpack(name) {
  const source = document.getElementById("data-" + name).textContent;
  const letters = atob(source.trim()), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}
const unpacked = async (name) => JSON.parse(await unpack(name));

// Spreadsheets execute text that starts with these characters, unless a quote precedes it.
const inert = (text) => (/^[=+\-@\t\r]/.test(text) ? "'" + text : text);
const field = (value) => (typeof value === "number" ? String(value) : `"${inert(String(value ?? "")).replace(/"/g, '""')}"`);
function saveCsv(name, columns, rows) {
  const lines = [columns, ...rows].map((row) => row.map((value) => (value === null ? "" : field(value))).join(","));
  const address = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" }));
  const file = name.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
  make("a", { href: address, download: (file || "table") + ".csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A table of any length, shown in pages, with a download of all rows. `format` has a function for the values of a column.
const PAGE_ROWS = 60;
function showTable(place, name, columns, rows, format = {}) {
  const body = make("tbody"), where = make("span", { className: "muted" });
  let first = 0;
  const look = (value, column) => (format[column] ? format[column](value) : shown(value, 4));
  function fill() {
    body.replaceChildren(...rows.slice(first, first + PAGE_ROWS).map((row) =>
      make("tr", {}, ...row.map((value, i) => make("td", { className: typeof value === "string" ? "word" : "" }, make("bdi", {}, look(value, columns[i])))))));
    const last = Math.min(first + PAGE_ROWS, rows.length);
    where.textContent = rows.length ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "no rows";
    before.disabled = first === 0;
    after.disabled = last >= rows.length;
  }
  const turn = (by) => { first += by * PAGE_ROWS; fill(); };
  const before = make("button", { type: "button", "aria-label": "Rows before", onclick: () => turn(-1) }, "‹");
  const after = make("button", { type: "button", "aria-label": "Rows after", onclick: () => turn(1) }, "›");
  const csv = make("button", { type: "button", className: "csv", onclick: () => saveCsv(name, columns, rows) }, "Download CSV");
  const head = make("thead", {}, make("tr", {}, ...columns.map((column, i) => make("th", { scope: "col", className: typeof rows[0]?.[i] === "string" ? "word" : "" }, column))));
  place.replaceChildren(
    make("div", { className: "turning" }, ...(rows.length > PAGE_ROWS ? [before, after] : []), where, csv),
    make("div", { className: "scroll long", tabIndex: 0, role: "region", "aria-label": name }, make("table", { className: "figures", "aria-label": name }, head, body)),
  );
  fill();
}

// Tables that are in the HTML can be downloaded too.
for (const table of document.querySelectorAll("table[data-name]")) {
  const cells = (row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " "));
  const save = () => saveCsv(table.dataset.name, cells(table.tHead.rows[0]), [...table.tBodies[0].rows].map(cells));
  table.closest(".scroll").after(make("p", { className: "turning" }, make("button", { type: "button", className: "csv", onclick: save }, "Download CSV")));
}

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details.undecided")) fold.open = true; });

if (!("DecompressionStream" in window)) {
  const words = "This browser cannot unpack the page's data: charts and explorer need one of 2023 or later.";
  document.querySelector("main").prepend(make("p", { className: "none" }, words));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const darkness = matchMedia("(prefers-color-scheme: dark)");
