"""Why a pixel loss blurs: costs of estimates of a signal with an unknown phase, exactly, and the figure of them.

    python docs/pixel_loss.py    # writes docs/images/pixel_loss.svg

HR is sin(u), with a phase u that LR does not determine: it is uniform over the circle. An estimate is a sin(v) + b with a
phase v of its own: `a` is how much texture it shows, `b` an error of the brightness, which LR does determine.
"""

from pathlib import Path

import numpy as np

PHASES = np.linspace(0, 2 * np.pi, 1441)[:-1]  # of the estimate; HR's phase is integrated in closed form


def pixel_l2(a: float, b: float) -> float:
    """Mean of (a sin v + b - sin u)² over u and v."""
    return (a**2 + 1) / 2 + b**2


def pixel_l1(a: float, b: float) -> float:
    """Mean of |a sin v + b - sin u| over u and v."""
    s = a * np.sin(PHASES) + b
    inside = np.clip(s, -1, 1)
    # mean over u of |s - sin u|: 2/π (s asin s + √(1 - s²)) for |s| <= 1, and |s| beyond
    means = np.where(abs(s) > 1, abs(s), 2 / np.pi * (inside * np.arcsin(inside) + np.sqrt(1 - inside**2)))
    return float(means.mean())


def autoencoded(a: float, b: float) -> float:
    """|AE(estimate) - AE(HR)|: the auto-encoder returns the mean of what it gets, b and 0, whatever the phases are."""
    return abs(b)


def draw(file: Path) -> None:
    """Draw HR's that fit one LR, and the costs by texture and by brightness."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "aesop", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}
    plt.rcParams |= {"axes.spines.right": False, "axes.titlesize": 9.5, "axes.titlelocation": "left"}
    blue, orange, green = "#3b6fb6", "#c8641e", "#0b6e63"
    figure, (signals, texture, brightness) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    x = np.linspace(0, 3, 301)
    for phase, shade in zip(np.linspace(0, 2, 6)[:-1], np.linspace(0.35, 0.8, 5), strict=True):
        signals.plot(x, np.sin(2 * np.pi * x + np.pi * phase), color=str(shade), linewidth=1)
    signals.plot(x, 0 * x, color="black", linewidth=2)
    signals.annotate("mean and median", (3, 0.08), ha="right", va="bottom", backgroundcolor="#ffffffcc")
    signals.set(title="HR images that one LR image allows", xlabel="position in LR pixels", yticks=[-1, 0, 1])
    steps = np.linspace(0, 1, 81)
    curves = ((pixel_l2, blue, "pixel L2"), (pixel_l1, orange, "pixel L1"), (autoencoded, green, "AESOP"))
    for cost, colour, label in curves:
        texture.plot(steps, [cost(a, 0) for a in steps], color=colour, label=label, linewidth=2)
        brightness.plot(steps - 0.5, [cost(1, b) for b in steps - 0.5], color=colour, label=label, linewidth=2)
    texture.set(title="Cost of texture", xlabel="amplitude a of the estimate's texture (HR: 1)", ylim=(-0.04, 1.3))
    brightness.set(title="Cost of a wrong brightness (a = 1)", xlabel="error b of brightness", ylim=(-0.04, 1.3))
    texture.legend(frameon=False, loc="upper left")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "pixel_loss.svg")
