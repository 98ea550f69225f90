/** Draws the loudness of samples as bars, while they come. */

/** Seconds of one measure of loudness. */
const STEP = 0.02;
/** Seconds that the whole width has at first; it doubles when they are full. */
const SHORTEST = 8;
/** What counts as loud at least, of 1: silence stays small. */
const QUIET = 0.02;
const BAR = 3;
const GAP = 2;

export class Wave {
  /** @type {number[]} the strongest sample of each step, 0 to 1 */
  #peaks = [];
  #inStep = 0;
  #peak = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
  }

  clear() {
    this.#peaks = [];
    this.#inStep = this.#peak = 0;
  }

  /**
   * @param {Int16Array} samples
   * @param {number} rate Hz
   */
  add(samples, rate) {
    for (const sample of samples) {
      this.#peak = Math.max(this.#peak, Math.abs(sample) / 32768);
      if (++this.#inStep < STEP * rate) continue;
      this.#peaks.push(this.#peak);
      this.#inStep = this.#peak = 0;
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
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.#cleared(width, height);
    const colour = getComputedStyle(this.canvas);
    const bars = Math.floor((width + GAP) / (BAR + GAP));
    const step = this.span(complete) / bars;
    const loudness = Array.from({ length: bars }, (_, bar) => this.#loudness(bar * step, (bar + 1) * step));
    const most = Math.max(QUIET, ...loudness);
    loudness.forEach((loud, bar) => {
      const tall = Math.max(BAR, (height * loud) / most);
      const heard = (bar + 1) * step <= position ? "--accent" : "--faint";
      context.fillStyle = colour.getPropertyValue(loud < 0 ? "--line" : heard);
      context.beginPath();
      context.roundRect(bar * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      context.fill();
    });
  }

  /**
   * An empty canvas as sharp as the screen.
   * @param {number} width
   * @param {number} height
   */
  #cleared(width, height) {
    Object.assign(this.canvas, { width: width * devicePixelRatio, height: height * devicePixelRatio });
    const context = this.canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    return context;
  }

  /**
   * That of a span of seconds, or -1 where there is nothing yet.
   * @param {number} from
   * @param {number} to
   */
  #loudness(from, to) {
    const first = Math.floor(from / STEP);
    const peaks = this.#peaks.slice(first, Math.max(first + 1, Math.floor(to / STEP)));
    return peaks.length ? peaks.reduce((sum, peak) => sum + peak, 0) / peaks.length : -1;
  }
}
