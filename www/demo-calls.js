/*
 * demo-calls.js - calls: who rings, who is seen, what one sends.
 *
 * Role: one call at a time, shown in its conversation, or as a line above
 *       another one; cards for those that ring. Camera, microphone and screen
 *       are asked for here, and let go of when the call is over.
 * See:  parley-call.js (the call itself), demo-chat.js (its user), demo-dom.js.
 */

import { arrange, avatarOf, duration, element, keep, label, make, setText,
  textButton, toast } from './demo-dom.js';

const TICK_MS = 1_000;
const CONNECTED = 'Connected';

const END_TEXTS = {
  ANSWERED_ELSEWHERE: 'The call was answered on another device.',
  LOST: 'The call was lost.',
  MISSED: 'Nobody answered.',
  REJECTED: 'The call was declined.',
};

export class CallDesk {
  #model;
  #hooks;
  #on;
  #calls;
  #entry = null; /* the call one is in: {call, conversation, activeAt, screen,
                    isChoosing}: the screen is being chosen */
  #isEntering = false; /* the browser asks whether it may use the camera */
  #isClosed = false;
  #rings = new Map();
  #figures = new Map();
  #tick = 0;

  /** @param hooks  open(conversation), current() conversation, paint() */
  constructor(calls, model, on, hooks) {
    this.#model = model;
    this.#hooks = hooks;
    this.#on = on;
    this.#calls = calls;
    on(this.#calls, 'call', ({ detail }) => this.#offered(detail.call));
    on(element('call-video'), 'click', () => this.#start('VIDEO'));
    on(element('call-audio'), 'click', () => this.#start('AUDIO'));
    on(element('call-mute'), 'click', () => this.#toggle('audio'));
    on(element('call-camera'), 'click', () => this.#toggle('video'));
    on(element('call-screen'), 'click', () => this.#share());
    for (const id of ['call-end', 'call-banner-end'])
      on(element(id), 'click', () => this.#hangUp());
    on(element('call-return'), 'click',
      () => hooks.open(this.#entry.conversation));
    label(element('call-video'), 'camera', 'Video call');
    label(element('call-audio'), 'phone', 'Audio call');
    label(element('call-end'), 'hangUp', 'Hang up');
    this.paint();
  }

  /** The chat is over. */
  close() {
    this.#isClosed = true;
    this.#calls.close();
    this.#left();
    for (const call of [...this.#rings.keys()])
      this.#silence(call);
  }

  /* ---- calling and being called ---- */

  async #start(kind) {
    const conversation = this.#hooks.current();

    if (conversation === undefined || this.#isEntering)
      return;
    if (this.#entry !== null) {
      this.#hooks.open(this.#entry.conversation);
      return;
    }
    const stream = await this.#media(kind);
    if (stream === null || this.#isClosed) {
      stopAll(stream);
      return;
    }
    const call = this.#calls.start(this.#model.others(conversation), { kind,
      stream, payload: { ConversationId: conversation.id } });
    call.ready.catch((error) =>
      toast(`The call could not be made: ${error.message}`));
    this.#entered(call, conversation);
  }

  #offered(call) {
    const who = this.#model.nameOf(call.fromUserId);
    const is_back = call.participants.some(({ UserId, State }) =>
      UserId === this.#model.me.UserId && State === 'JOINED'); /* reloaded */
    const card = make('li', 'ring');
    const words = make('span', 'grow');
    const kind = call.kind === 'VIDEO' ? 'video call' : 'call';

    words.append(make('strong', 'name', who), make('span', 'quiet',
      is_back ? 'You were in this call' : `Incoming ${kind}`));
    card.append(avatarOf(who, call.fromUserId), words,
      textButton(is_back ? 'Rejoin' : 'Accept', () => this.#accept(call),
        'good'),
      textButton(is_back ? 'Leave' : 'Decline', () => this.#decline(call),
        'bad'));
    this.#on(card, 'keydown', (event) => {
      if (event.key === 'Escape')
        this.#decline(call);
    });
    this.#rings.set(call, card);
    element('rings').append(card);
    this.#on(call, 'ended', ({ detail }) => {
      if (!this.#rings.has(call))
        return;
      this.#silence(call);
      if (detail.reason === 'ANSWERED_ELSEWHERE')
        toast(END_TEXTS.ANSWERED_ELSEWHERE);
    });
    this.#tellRinging();
  }

  /* One at a time; the others go on ringing. */
  async #accept(call) {
    if (this.#isEntering)
      return;
    this.#silence(call);
    this.#hangUp();
    const conversation = this.#conversationOf(call);
    const stream = await this.#media(call.kind);

    if (call.state === 'ended') {
      stopAll(stream);
      return;
    }
    this.#entered(call, conversation);
    this.#hooks.open(conversation);
    try {
      await call.accept(stream);
    } catch (error) {
      stopAll(stream);
      toast(`The call could not be answered: ${error.message}`);
    }
  }

  #decline(call) {
    this.#silence(call);
    call.hangUp().catch((error) => toast(error.message));
  }

  #silence(call) {
    this.#rings.get(call)?.remove();
    this.#rings.delete(call);
    this.#tellRinging();
  }

  #tellRinging() {
    const [call] = this.#rings.keys();

    this.#model.ringing = call && this.#model.nameOf(call.fromUserId);
    this.#hooks.paint();
  }

  /* What a caller says of the conversation counts where he is a member. */
  #conversationOf(call) {
    const told = this.#model.conversations.get(call.payload?.ConversationId);

    return told?.members.includes(call.fromUserId) ? told
      : this.#model.withUser(call.fromUserId);
  }

  /* ---- the call one is in ---- */

  #entered(call, conversation) {
    const is_of_this = () => this.#entry?.call === call;

    this.#entry = { call, conversation, activeAt: null, screen: null,
      isChoosing: false };
    for (const type of ['state', 'participant', 'track', 'peer'])
      this.#on(call, type, () => this.#hooks.paint());
    this.#on(call, 'ended', ({ detail }) => {
      if (!is_of_this())
        return;
      if (END_TEXTS[detail.reason] && !(call.isIncoming &&
          detail.reason === 'REJECTED'))
        toast(END_TEXTS[detail.reason]);
      this.#left();
    });
    clearInterval(this.#tick);
    this.#tick = setInterval(() => this.#paintState(), TICK_MS);
    this.#hooks.paint();
  }

  async #hangUp() {
    try {
      await this.#entry?.call.hangUp(); /* `ended` comes at once */
    } catch (error) {
      toast(error.message);
    }
  }

  #left() {
    clearInterval(this.#tick);
    stopAll(this.#entry?.call.stream);
    stopAll(this.#entry?.screen);
    this.#entry = null;
    this.#figures.clear();
    for (const id of ['call-others', 'call-state', 'call-time',
      'call-banner-text', 'call-banner-time'])
      element(id).replaceChildren();
    element('call-self').srcObject = null;
    this.#hooks.paint();
  }

  #toggle(kind) {
    const { call } = this.#entry;

    call.setEnabled(kind, !call.isEnabled(kind));
    this.paint();
  }

  async #share() {
    const entry = this.#entry;

    if (entry.isChoosing)
      return;
    entry.isChoosing = true;
    try {
      if (entry.call.isSharing)
        await this.#unshare(entry);
      else
        await this.#shareChosen(entry,
          await navigator.mediaDevices.getDisplayMedia());
    } catch (error) {
      if (error.name !== 'NotAllowedError') /* one has changed one's mind */
        toast(`The screen cannot be shown: ${error.message}`);
    }
    entry.isChoosing = false;
    this.#hooks.paint();
  }

  async #shareChosen(entry, screen) {
    const [track] = screen.getVideoTracks();

    if (this.#entry !== entry) {
      stopAll(screen); /* hung up meanwhile */
      return;
    }
    entry.screen = screen;
    this.#on(track, 'ended', () => this.#hooks.paint());
    await entry.call.shareScreen(track);
  }

  async #unshare(entry) {
    stopAll(entry.screen);
    await entry.call.shareScreen(null);
  }

  /* Microphone and, for video, camera; without a camera one is heard. */
  async #media(kind) {
    if (navigator.mediaDevices === undefined) {
      toast('Calls need a page that comes over HTTPS, or from this computer.');
      return null;
    }
    this.#isEntering = true;
    try {
      return await this.#captured(kind === 'VIDEO');
    } catch (error) {
      toast(`Neither camera nor microphone can be used: ${error.message}`);
      return null;
    } finally {
      this.#isEntering = false;
    }
  }

  async #captured(video) {
    try {
      return await navigator.mediaDevices.getUserMedia({ audio: true, video });
    } catch (error) {
      if (!video)
        throw error;
      return this.#captured(false);
    }
  }

  /* ---- what is seen ---- */

  paint() {
    const { call, conversation } = this.#entry ?? {};
    const is_here = call !== undefined &&
      conversation.id === this.#model.openId;

    element('call').hidden = !is_here;
    element('call-banner').hidden = call === undefined || is_here;
    if (call === undefined)
      return;
    if (call.state === 'active')
      this.#entry.activeAt ??= performance.now();
    this.#paintState();
    this.#paintOthers(call);
    this.#paintSelf(call);
    this.#paintButtons(call);
  }

  #paintState() {
    const { call, conversation, activeAt } = this.#entry;
    const text = this.#stateText(call);
    const time = text === CONNECTED ? duration(performance.now() - activeAt)
      : ''; /* apart from what is read out */

    setText(element('call-state'), text);
    setText(element('call-time'), time);
    setText(element('call-banner-text'),
      `In a call: ${this.#model.title(conversation)} · ${text}`);
    setText(element('call-banner-time'), time);
  }

  #stateText(call) {
    const others = call.participants
      .filter(({ UserId }) => UserId !== this.#model.me.UserId);

    if (call.state !== 'active')
      return others.some(({ Busy }) => Busy) ? 'Ringing; busy at the moment…'
        : call.state === 'calling' ? 'Calling…' : 'Ringing…';
    if (others.some(({ State }) => State === 'RECONNECTING'))
      return 'Reconnecting…';
    if (!call.peers.some(({ state }) => state === 'connected'))
      return 'Connecting…';
    return CONNECTED;
  }

  #paintOthers(call) {
    const nodes = call.peers.map((peer) => {
      const node = keep(this.#figures, peer.userId,
        () => this.#makeFigure(peer.userId));
      if (node.video.srcObject !== peer.stream)
        node.video.srcObject = peer.stream;
      node.classList.toggle('unseeable', !peer.stream?.getVideoTracks().length);
      return node;
    });

    arrange(element('call-others'), nodes.length > 0 ? nodes
      : [keep(this.#figures, 'nobody', () => {
        const { conversation } = this.#entry;
        const [id] = this.#model.others(conversation);
        return this.#makeFigure(id ?? 0, this.#model.title(conversation));
      })]);
  }

  #makeFigure(user_id, name = this.#model.nameOf(user_id)) {
    const node = make('figure', 'unseeable');

    node.video = make('video', '');
    node.video.autoplay = true;
    node.video.playsInline = true;
    node.append(node.video, avatarOf(name, user_id),
      make('figcaption', '', name));
    return node;
  }

  #paintSelf(call) {
    const video = element('call-self');

    if (video.srcObject !== call.stream)
      video.srcObject = call.stream;
    video.hidden = !call.stream?.getVideoTracks().length ||
      !call.isEnabled('video');
  }

  #paintButtons(call) {
    const has = (kind) => call.stream?.getTracks()
      .some((track) => track.kind === kind);
    const press = (id, kind, off_icon, on_icon, [off, on]) => {
      const is_off = !call.isEnabled(kind);
      label(element(id), is_off ? off_icon : on_icon, is_off ? off : on);
      element(id).setAttribute('aria-pressed', String(is_off));
      element(id).hidden = !has(kind);
    };

    press('call-mute', 'audio', 'micOff', 'mic', ['Unmute', 'Mute']);
    press('call-camera', 'video', 'cameraOff', 'camera',
      ['Camera on', 'Camera off']);
    label(element('call-screen'), 'screen', call.isSharing
      ? 'Stop showing the screen' : 'Show the screen');
    element('call-screen').setAttribute('aria-pressed',
      String(call.isSharing));
    element('call-screen').hidden = call.state !== 'active' ||
      navigator.mediaDevices?.getDisplayMedia === undefined;
  }
}

function stopAll(stream) {
  for (const track of stream?.getTracks() ?? [])
    track.stop();
}
