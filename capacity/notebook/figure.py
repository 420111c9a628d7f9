"""The one live figure of a notebook: plotly's script in the browser, a plain dict in the kernel."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    import plotly.graph_objects as go


@cache
def _plotlys_script() -> bytes:
    """Plotly's script out of its package, which need not be imported for it; compressed to a third."""
    found = importlib.util.find_spec("plotly")
    assert found is not None
    assert found.origin is not None
    script = (Path(found.origin).parent / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(script, compresslevel=1, mtime=0)


class CapacityFigure(anywidget.AnyWidget):
    """A plotly figure that is drawn anew in the browser whenever its spec changes; the person's own zoom stays.

    In place of plotly's FigureWidget, whose checked objects take most of the time of a key press and two seconds to
    import, whose page tells the kernel at length what it has drawn, and which a reloaded page shows with its first
    data. Here a page has the script in a message of bytes, compressed (2 MB a figure), and draws what the state
    says. The widget manager of a page that is loaded again gives up after 4 s, so have few figures in a notebook.

    Parameters
    ----------
    spec : dict
        Traces and layout in plotly's schema.
    """

    spec = traitlets.Dict().tag(sync=True)
    _script = traitlets.Bytes().tag(sync=True)

    _esm = """
    async function load(script) {  // once a page: each figure's module is its own
      while (window.capacityLoads) await window.capacityLoads.catch(() => {});
      if (window.Plotly) return;
      window.capacityLoads = plotly(script).finally(() => { delete window.capacityLoads; });
      await window.capacityLoads;
    }
    async function plotly(script) {
      const whole = new Blob([script]).stream().pipeThrough(new DecompressionStream("gzip"));
      const blob = await new Response(whole, { headers: { "Content-Type": "text/javascript" } }).blob();
      await new Promise((resolve, reject) => {
        window.PlotlyConfig = { MathJaxConfig: "local" };
        const tag = document.createElement("script");
        tag.src = URL.createObjectURL(blob);
        tag.onload = () => { URL.revokeObjectURL(tag.src); resolve(); };
        tag.onerror = reject;
        document.head.append(tag);
      });
    }
    export default { async render({ model, el }) {
      el.style.cssText = "width: 100%; min-width: 0";
      const plot = document.createElement("div");
      el.append(plot);
      const config = { displayModeBar: false, showTips: false };
      let drawing = false, again = false, width = 0;
      const draw = async () => {
        again = drawing;
        if (drawing) return;
        drawing = true;
        try {
          const { data, layout } = structuredClone(model.get("spec"));
          await window.Plotly.react(plot, data, { ...layout, uirevision: "the person's zoom" }, config);
        } finally { drawing = false; }
        if (again) draw();
      };
      const fit = new ResizeObserver(() => {
        if (!plot.clientWidth || plot.clientWidth === width || !plot.layout) return;
        width = plot.clientWidth;
        window.Plotly.Plots.resize(plot);
      });
      let gone = false;
      (async () => {
        try { await load(model.get("_script")); } catch {
          el.textContent = "The figure is not shown: the browser refuses plotly's script. The tables have its numbers.";
          return;
        }
        if (gone) return;
        model.on("change:spec", draw);
        await draw();
        fit.observe(plot);
      })();
      return () => {
        gone = true;
        fit.disconnect();
        model.off("change:spec", draw);
        if (window.Plotly) window.Plotly.purge(plot);
      };
    } };
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec=spec, _script=_plotlys_script())

    def follow(self, spec: dict[str, Any]) -> None:
        """Show another spec."""
        self.spec = spec

    def resend(self) -> None:
        """Send the spec to a page that has just loaded, and may have missed one."""
        self.send_state("spec")

    @property
    def plotly(self) -> go.Figure:
        """A figure of plotly's own with what is shown now, to do with as you like."""
        import plotly.graph_objects as go

        return go.Figure(self.spec)
