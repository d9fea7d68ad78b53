// Copy buttons, and charts once plotly.js is unpacked.
for (const button of document.querySelectorAll(".command button")) {
  button.hidden = false;
  button.onclick = async () => {
    const line = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(line.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
  };
}
const packed = document.getElementById("plotly");
if (packed) unpack(packed.textContent).then(run).then(drawAll, showError);

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
function run(source) {
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
}
async function drawAll() {
  for (const chart of document.querySelectorAll(".chart")) {
    const figure = JSON.parse(chart.querySelector("script").textContent);
    chart.textContent = "";
    const settings = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
    await Plotly.newPlot(chart, figure.data, figure.layout, settings);
  }
}
function showError(error) {
  for (const chart of document.querySelectorAll(".chart")) chart.textContent = "No chart: " + error;
}
