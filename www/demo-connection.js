/*
 * demo-connection.js - RTCPeerConnection, around one fault of Chromium's.
 *
 * Role: where two ends offer at the same moment, one of them rolls its offer
 *       back (W3C WebRTC 1.0, 10.7). In Chromium (seen in 156: one call in
 *       five) that end then gathers no candidates, for ever, whatever is tried:
 *       "gathering", without one event. So the end that would give way waits
 *       with its first offer for that of the other.
 * See:  demo.js, demo-calls.js, its users; t/92-browser-calls.t.
 */

const PATIENCE_MS = 1_000;

export class Connection extends (globalThis.RTCPeerConnection ?? Object) {
  /** Whether those that are made now wait. */
  static isPatient = () => false;

  #isPatient = Connection.isPatient();
  #wake = null;

  async setLocalDescription(description) {
    if (description === undefined && this.#isPatient &&
        this.signalingState === 'stable' && this.remoteDescription === null &&
        await this.#isOffered())
      return; /* what was to be offered goes into the answer */
    await super.setLocalDescription(description);
  }

  setRemoteDescription(description) {
    this.#wake?.();
    return super.setRemoteDescription(description);
  }

  close() {
    this.#wake?.();
    super.close();
  }

  async #isOffered() {
    return new Promise((resolve) => {
      this.#wake = () => resolve(true);
      setTimeout(() => resolve(false), PATIENCE_MS);
    });
  }
}
