/** Hands on what a microphone hears; runs beside the page, in the audio system. */
class Tap extends AudioWorkletProcessor {
  /** @param {Float32Array[][]} inputs */
  process([[heard]]) {
    if (heard) this.port.postMessage(heard.slice());
    return true;
  }
}

registerProcessor("tap", Tap);
