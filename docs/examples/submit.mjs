// Speaks a request from Node 18 or newer, without packages:
//
//   REDIS_URL=redis://producer:PASSWORD@127.0.0.1:6379 node submit.mjs '{"text": "Hello."}' hello.wav
//
// A service would use its own Redis client; the commands are the same. docs/producers.md explains them.
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { inflateSync } from 'node:zlib';

/** A connection: sends one command at a time and resolves to its reply; strings are Buffers. */
class Redis {
  #received = Buffer.alloc(0);
  #waiting = null;

  constructor(host, port) {
    this.socket = connect(port, host);
    this.socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#answer();
    });
    this.socket.on('error', (error) => this.#waiting?.reject(error));
    this.socket.on('close', () => this.#waiting?.reject(new Error('Redis has closed the connection')));
  }

  call(...words) {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    this.socket.write(`*${words.length}\r\n${parts.join('')}`);
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  #answer() {
    const reply = parse(this.#received, 0);
    if (reply === undefined) return;
    this.#received = this.#received.subarray(reply.end);
    const { resolve, reject } = this.#waiting;
    this.#waiting = null;
    reply.value instanceof Error ? reject(reply.value) : resolve(reply.value);
  }
}

/** One RESP reply and where it ends; undefined while it is not whole. */
function parse(data, start) {
  const line = data.indexOf('\r\n', start);
  if (line < 0) return undefined;
  const text = data.toString('utf8', start + 1, line);
  let end = line + 2;
  switch (String.fromCharCode(data[start])) {
    case '+':
      return { value: text, end };
    case '-':
      return { value: new Error(text), end };
    case ':':
      return { value: Number(text), end };
    case '$': {
      const size = Number(text);
      if (size < 0) return { value: null, end };
      return data.length < end + size + 2 ? undefined : { value: data.subarray(end, end + size), end: end + size + 2 };
    }
    default: {
      if (Number(text) < 0) return { value: null, end };
      const values = [];
      while (values.length < Number(text)) {
        const item = parse(data, end);
        if (item === undefined) return undefined;
        values.push(item.value);
        end = item.end;
      }
      return { value: values, end };
    }
  }
}

async function submit(redis, request, queue = 'tts') {
  const id = randomUUID();
  const now = new Date().toISOString().replace('Z', '000Z'); // RQ writes microseconds
  const call = JSON.stringify(['worker.tasks.synthesize', null, [], { request }]);
  const job = { status: 'queued', origin: queue, created_at: now, enqueued_at: now, timeout: '180', data: call };
  await redis.call('MULTI');
  await redis.call('HSET', `rq:job:${id}`, 'description', 'speech', ...Object.entries(job).flat());
  await redis.call('SADD', 'rq:queues', `rq:queue:${queue}`);
  await redis.call('RPUSH', `rq:queue:${queue}`, id);
  await redis.call('EXEC');
  return id;
}

/** The result of a job when it has ended; throws with the worker's reason if it has failed. */
async function outcome(redis, id) {
  let streams = null;
  while (streams === null) {
    streams = await redis.call('XREAD', 'BLOCK', '5000', 'COUNT', '1', 'STREAMS', `rq:results:${id}`, '0-0');
  }
  const flat = streams[0][1][0][1].map(String);
  const fields = new Map();
  for (let i = 0; i < flat.length; i += 2) fields.set(flat[i], flat[i + 1]);
  const bytes = (name) => Buffer.from(fields.get(name) ?? '', 'base64');
  if (fields.get('type') !== '1') throw new Error(inflateSync(bytes('exc_string')).toString());
  return JSON.parse(bytes('return_value').toString());
}

const [request, output] = process.argv.slice(2);
const url = new URL(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379');
const redis = new Redis(url.hostname, Number(url.port || 6379));
try {
  if (url.password) await redis.call('AUTH', decodeURIComponent(url.username || 'default'), decodeURIComponent(url.password));
  const id = await submit(redis, JSON.parse(request));
  const result = await outcome(redis, id);
  writeFileSync(output, await redis.call('GET', result.audio_key));
  console.log(JSON.stringify(result));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  redis.socket.destroy();
}
