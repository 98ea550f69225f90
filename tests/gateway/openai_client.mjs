// Asks a gateway for speech with OpenAI's client: whole, streamed, and in a voice that there is not.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const request = { model: "tts-1", voice: "alloy", input: "Hello.", max_seconds: 0.4, seed: 1, response_format: "wav" };

const whole = Buffer.from(await (await client.audio.speech.create(request)).arrayBuffer());
let streamed = 0;
for await (const piece of (await client.audio.speech.create({ ...request, stream_format: "audio" })).body) {
  streamed += piece.length;
}
let told = null;
try {
  await client.audio.speech.create({ ...request, voice: "nobody" });
} catch (error) {
  told = { kind: error.constructor.name, status: error.status, param: error.param, id: Boolean(error.requestID) };
}
const head = whole.toString("latin1", 0, 4);
console.log(JSON.stringify({ head, size: whole.readUInt32LE(4), length: whole.length, streamed, told }));
