/** Plays samples while they come. */

import { Samples } from "./samples.js";

/** Seconds that are gathered before it sounds, so that a late piece makes no gap. */
const GATHERED = 0.15;
/** Seconds that are handed to the audio system ahead of time: timers of hidden pages run once a second. */
const AHEAD = 4;
const BLOCK = 0.5;
const START = 0.03;
const TICK = 50;

export class Player {
  #samples = new Samples();
  #complete = false;
  /** The next sample to schedule, and the time of the audio system at which it sounds. */
  #next = 0;
  #clock = 0;
  /** @type {Set<AudioBufferSourceNode>} */
  #sources = new Set();
  #sounds = false;
  #timer = 0;

  /**
   * @param {number} rate Hz, of the samples: the audio system resamples the whole, so that pieces fit seamlessly
   * @param {() => void} onChange something has come, begun or ended
   */
  constructor(rate, onChange) {
    this.rate = rate;
    this.#onChange = onChange;
    this.#context = new AudioContext({ sampleRate: rate });
    this.#timer = setInterval(() => this.#schedule(), TICK);
  }
  /** @type {() => void} */
  #onChange;
  /** @type {AudioContext} */
  #context;

  /** @param {Uint8Array} bytes samples of 16 bits */
  add(bytes) {
    const added = this.#samples.addBytes(bytes);
    this.#schedule();
    return added;
  }

  /** There is no more to come. */
  complete() {
    this.#complete = true;
    this.#schedule();
  }

  /** All samples so far. */
  get samples() {
    return this.#samples.all();
  }

  /** Seconds that there are. */
  get length() {
    return this.#samples.length / this.rate;
  }

  /** Seconds that have sounded. */
  get position() {
    const ahead = Math.max(0, this.#clock - this.#context.currentTime);
    return Math.max(0, this.#next / this.rate - ahead);
  }

  /** Whether it sounds, or would if there were more. */
  get playing() {
    return this.#context.state === "running" && !this.ended;
  }

  get ended() {
    return this.#complete && this.#next === this.#samples.length && !this.#sounds;
  }

  async pause() {
    await this.#context.suspend();
    this.#onChange();
  }

  /** Go on, from the beginning if it was at the end. */
  async play() {
    if (this.ended) this.seek(0);
    await this.#context.resume();
    this.#onChange();
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#silence();
    this.#next = Math.min(Math.round(seconds * this.rate), this.#samples.length);
    this.#schedule();
    this.#onChange();
  }

  /** Be silent, and give the audio system back. */
  async close() {
    clearInterval(this.#timer);
    this.#silence();
    await this.#context.close();
  }

  #silence() {
    for (const source of this.#sources) {
      source.onended = null;
      source.stop();
    }
    this.#sources.clear();
    this.#sounds = false;
    this.#clock = 0;
  }

  #schedule() {
    const now = this.#context.currentTime;
    if (this.#clock <= now) {
      const ready = this.#samples.length - this.#next;
      if (!ready || (!this.#complete && ready < GATHERED * this.rate)) return;
      this.#clock = Math.ceil((now + START) * this.rate) / this.rate;
    }
    while (this.#next < this.#samples.length && this.#clock - now < AHEAD) this.#scheduleBlock();
  }

  #scheduleBlock() {
    const block = this.samples.subarray(this.#next, this.#next + BLOCK * this.rate);
    const buffer = this.#context.createBuffer(1, block.length, this.rate);
    buffer.copyToChannel(Float32Array.from(block, (sample) => sample / 32768), 0);
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#context.destination);
    source.onended = () => this.#end(source);
    source.start(this.#clock);
    this.#sources.add(source);
    this.#next += block.length;
    this.#clock += block.length / this.rate;
    if (!this.#sounds) {
      this.#sounds = true;
      this.#onChange();
    }
  }

  /** @param {AudioBufferSourceNode} source */
  #end(source) {
    this.#sources.delete(source);
    if (this.#sources.size) return;
    this.#sounds = false;
    this.#onChange();
  }
}
