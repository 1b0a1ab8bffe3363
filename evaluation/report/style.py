"""Colours and resolution of a report's picture."""

INK, FAINT, HAIRLINE = "#2b2b2b", "#6e6e6e", "#dcdcdc"

# Okabe and Ito's blue and vermillion, then four of Paul Tol's muted colours: told apart with any kind of colour vision,
# and dark enough for words on white.
PALETTE = ("#0072B2", "#D55E00", "#117733", "#AA4499", "#332288", "#882255")

DPI = 150
