/** Draws the loudness of samples as bars, while they come. */

/** Seconds of one measure of loudness. */
const STEP = 0.02;
/** Seconds that the whole width has at first; it doubles when they are full. */
const SHORTEST = 8;
const BAR = 3;
const GAP = 2;

export class Wave {
  /** @type {number[]} the loudest of each step, 0 to 1 */
  #peaks = [];
  #inStep = 0;
  #loudest = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
  }

  clear() {
    this.#peaks = [];
    this.#inStep = this.#loudest = 0;
  }

  /**
   * @param {Int16Array} samples
   * @param {number} rate Hz
   */
  add(samples, rate) {
    for (const sample of samples) {
      this.#loudest = Math.max(this.#loudest, Math.abs(sample) / 32768);
      if (++this.#inStep >= STEP * rate) {
        this.#peaks.push(this.#loudest);
        this.#inStep = this.#loudest = 0;
      }
    }
  }

  /**
   * Seconds that the width shows.
   * @param {boolean} complete whether there is no more to come
   */
  span(complete) {
    const seconds = this.#peaks.length * STEP;
    if (complete && seconds) return seconds;
    return SHORTEST * 2 ** Math.max(0, Math.ceil(Math.log2(seconds / SHORTEST)));
  }

  /**
   * @param {number} position seconds that have been heard
   * @param {boolean} complete
   */
  draw(position, complete) {
    const { canvas } = this;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.scale(scale, scale);
    const bars = Math.floor((width + GAP) / (BAR + GAP));
    const span = this.span(complete);
    const most = Math.max(0.05, ...loudest(this.#peaks, 4000));
    for (let bar = 0; bar < bars; bar++) {
      const [from, to] = [(bar / bars) * span, ((bar + 1) / bars) * span];
      const first = Math.floor(from / STEP);
      const peaks = this.#peaks.slice(first, Math.max(first + 1, Math.floor(to / STEP)));
      const tall = peaks.length ? Math.max(BAR, (height * Math.max(...loudest(peaks, 4000))) / most) : BAR;
      context.fillStyle = style.getPropertyValue(!peaks.length ? "--line" : to <= position ? "--accent" : "--faint");
      context.beginPath();
      context.roundRect(bar * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      context.fill();
    }
  }
}

/**
 * The loudest of every so many, because a call takes so many arguments only.
 * @param {number[]} peaks
 * @param {number} many
 */
function loudest(peaks, many) {
  const found = [];
  for (let at = 0; at < peaks.length; at += many) found.push(Math.max(...peaks.slice(at, at + many)));
  return found;
}
