/** Records a microphone as a WAV, which every worker reads. */

import { Samples } from "./samples.js";
import { wav } from "./wav.js";
import { Trouble } from "./words.js";

/** As they are: what makes calls clear makes voices alike. */
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };

export class Recorder {
  #samples = new Samples();

  /**
   * @param {MediaStream} stream
   * @param {AudioContext} context
   * @param {(samples: Int16Array, rate: number) => void} onHeard
   */
  constructor(stream, context, onHeard) {
    this.#stream = stream;
    this.#context = context;
    const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
    tap.port.onmessage = ({ data }) => {
      const samples = Int16Array.from(data, (sample) => 32767 * Math.max(-1, Math.min(1, sample)));
      this.#samples.add(samples);
      onHeard(samples, context.sampleRate);
    };
    context.createMediaStreamSource(stream).connect(tap);
  }
  /** @type {MediaStream} */
  #stream;
  /** @type {AudioContext} */
  #context;

  /**
   * @param {(samples: Int16Array, rate: number) => void} onHeard
   * @throws {Trouble}
   */
  static async begin(onHeard) {
    if (!navigator.mediaDevices) throw new Trouble("insecure");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: PLAIN }).catch((error) => {
      throw new Trouble(error.name === "NotAllowedError" ? "refused" : "no_microphone");
    });
    const context = new AudioContext();
    await context.audioWorklet.addModule("page/tap.js");
    return new Recorder(stream, context, onHeard);
  }

  get seconds() {
    return this.#samples.length / this.#context.sampleRate;
  }

  /** @returns {Promise<Blob>} the WAV */
  async end() {
    for (const track of this.#stream.getTracks()) track.stop();
    await this.#context.close();
    return wav(this.#samples.all(), this.#context.sampleRate);
  }
}
