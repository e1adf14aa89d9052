/*
 * wire.mjs - the client side of a WebSocket, small enough to misbehave.
 *
 * Role: upgrade, masked text frames out, frames in; and the ends that a
 *       polite library does not offer: in the middle of a frame, by reset.
 * See:  RFC 6455
 */

import net from 'node:net';
import { createHash, randomBytes } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const OP_CONTINUATION = 0;
const OP_TEXT = 1;
const OP_CLOSE = 8;
const OP_PING = 9;
const OP_PONG = 10;

function frame(op, payload) {
  const length = payload.length;
  const extra = length < 126 ? 0 : length < 65536 ? 2 : 8;
  const out = Buffer.allocUnsafe(6 + extra + length);
  const mask = randomBytes(4);
  let at = 2;

  out[0] = 0x80 | op;
  if (extra === 0) {
    out[1] = 0x80 | length;
  } else if (extra === 2) {
    out[1] = 0x80 | 126;
    out.writeUInt16BE(length, 2);
  } else {
    out[1] = 0x80 | 127;
    out.writeBigUInt64BE(BigInt(length), 2);
  }
  at += extra;
  mask.copy(out, at);
  at += 4;
  for (let i = 0; i < length; i++) out[at + i] = payload[i] ^ mask[i & 3];
  return out;
}

export class Wire {
  #socket;
  #on;
  #key = randomBytes(16).toString('base64');
  #input = Buffer.alloc(0);
  #parts = [];
  #isOpen = false;
  #isOver = false;
  #code = 0;
  #corked = false;

  /** on: {open(), message(text), end({code, error})}; end comes once. */
  constructor(port, on) {
    this.#on = on;
    this.#socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    this.#socket.on('connect', () => this.#upgrade(port));
    this.#socket.on('data', (data) => this.#data(data));
    this.#socket.on('error', (error) => this.#over(error.code ?? 'error'));
    this.#socket.on('end', () => this.#socket.end());
    this.#socket.on('close', () => this.#over(''));
  }

  #upgrade(port) {
    this.#socket.write(
      `GET /ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n` +
        'Upgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Key: ${this.#key}\r\nSec-WebSocket-Version: 13\r\n` +
        'Sec-WebSocket-Protocol: parley.v1\r\n\r\n',
    );
  }

  #over(error) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#socket.destroy();
    this.#on.end({ code: this.#code, error });
  }

  #data(data) {
    if (this.#isOver) return;
    this.#input = this.#input.length ? Buffer.concat([this.#input, data]) : data;
    if (!this.#isOpen && !this.#head()) return;
    while (!this.#isOver && this.#frame());
  }

  #head() {
    const end = this.#input.indexOf('\r\n\r\n');
    const accept = createHash('sha1').update(this.#key + GUID).digest('base64');

    if (end < 0) return false;
    const head = this.#input.subarray(0, end).toString('latin1');
    this.#input = this.#input.subarray(end + 4);
    if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(accept)) {
      this.#over(`upgrade refused: ${head.split('\r\n')[0]}`);
      return false;
    }
    this.#isOpen = true;
    this.#on.open();
    return true;
  }

  #frame() {
    const input = this.#input;
    let length;
    let at = 2;

    if (input.length < 2) return false;
    length = input[1];
    if (length === 126) {
      if (input.length < 4) return false;
      length = input.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (input.length < 10) return false;
      length = Number(input.readBigUInt64BE(2));
      at = 10;
    }
    if (input[1] & 0x80) {
      this.#over('a masked frame from the server');
      return false;
    }
    if (input.length < at + length) return false;
    this.#input = input.subarray(at + length);
    this.#take(input[0], input.subarray(at, at + length));
    return true;
  }

  #take(first, payload) {
    const op = first & 0x0f;

    if (op === OP_PING) {
      this.#write(frame(OP_PONG, payload));
    } else if (op === OP_CLOSE) {
      this.#code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      this.#write(frame(OP_CLOSE, payload.subarray(0, 2)));
      this.#socket.end();
    } else if (op === OP_TEXT || op === OP_CONTINUATION) {
      this.#parts.push(payload);
      if ((first & 0x80) === 0) return;
      const text = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#on.message(text);
    } else if (op !== OP_PONG) {
      this.#over(`frame with opcode ${op}`);
    }
  }

  /* What is sent in one go of the event loop leaves in one segment. */
  #write(data) {
    if (this.#isOver || this.#socket.destroyed) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      setImmediate(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    this.#socket.write(data);
  }

  send(text) {
    this.#write(frame(OP_TEXT, Buffer.from(text)));
  }

  /** Only the first part of the frame, then the connection is dropped. */
  sendPart(text, share) {
    const whole = frame(OP_TEXT, Buffer.from(text));
    const length = Math.max(1, Math.floor((whole.length - 1) * share));

    this.#socket.end(whole.subarray(0, length));
    this.#socket.on('finish', () => this.#socket.destroy());
  }

  close() {
    this.#write(frame(OP_CLOSE, Buffer.from([0x03, 0xe8])));
  }

  /** FIN without a close frame; what was written still arrives. */
  drop() {
    this.#socket.destroySoon();
  }

  /** RST: what the other side has not read is lost. */
  reset() {
    this.#socket.resetAndDestroy();
  }
}
