"""Colors and resolution of a report's figure, and common settings of axes."""

from matplotlib.axis import Axis
from matplotlib.ticker import Locator, NullLocator

INK, FAINT, HAIRLINE = "#2b2b2b", "#6e6e6e", "#dcdcdc"
# Okabe and Ito's blue and vermillion, then four of Paul Tol's muted colors: distinguishable with color blindness, and
# dark enough for text on white.
PALETTE = ("#0072B2", "#D55E00", "#117733", "#AA4499", "#332288", "#882255")
DPI = 150

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    # A name may hold dollar signs.
    "text.parse_math": False,
}


def number_log_axis(axis: Axis, ticks: Locator) -> None:
    """Use plain numbers at the ticks of a logarithmic axis, without minor ticks."""
    axis.set_major_locator(ticks)
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())
