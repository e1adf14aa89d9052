/* parley.d.ts - the types of parley.js and parley-call.js; what they mean
 * stands in README.md, in doc/protocol.md and in the sources. */

/** MessageId, GroupId, CollaborationId, ConversationId: too large a number. */
export type Id = string;
export type Status = 'ONLINE' | 'AWAY' | 'BUSY' | 'INVISIBLE';
export type State = 'idle' | 'connecting' | 'open' | 'authenticated' |
  'reconnecting' | 'closed';
/** Exactly one of the three. */
export type Target = number | number[] |
  { ToUserList: number[]; GroupId?: undefined; CollaborationId?: undefined } |
  { GroupId: Id; ToUserList?: undefined; CollaborationId?: undefined } |
  { CollaborationId: Id; ToUserList?: undefined; GroupId?: undefined };
export type Role = 'OWNER' | 'ADMIN' | 'MEMBER';
export type Kind = 'VIDEO' | 'AUDIO' | 'SCREEN' | 'DATA';
/** As the server says, or one of the client: see README.md, Errors. */
export type Reason = 'OK' | 'DUPLICATE' | 'BAD_REQUEST' | 'UNKNOWN_COMMAND' |
  'UNAUTHENTICATED' | 'AUTH_FAILED' | 'TOKEN_EXPIRED' | 'FORBIDDEN' |
  'NOT_FOUND' | 'CONFLICT' | 'TOO_LARGE' | 'RATE_LIMITED' | 'UNAVAILABLE' |
  'STORAGE_FULL' | 'SERVER_ERROR' | 'RECONNECT' | 'REPLACED' | 'KICKED' |
  'IDLE_TIMEOUT' | 'SLOW_CONSUMER' | 'DISCONNECTED' | 'CONNECTION_LOST' |
  'SILENT' | 'TIMEOUT' | 'GAP' | 'LOGOUT' | 'CLOSED' | 'OUTBOX_FULL';

/* ---- options ---- */

export interface Credentials {
  token?: string | (() => string | Promise<string>);
  userName?: string;
  password?: string;
}

export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** As Storage, or with promises (IndexedDB); calls take effect in order. */
export interface OutboxStorage {
  getItem(key: string): string | null | undefined |
    Promise<string | null | undefined>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

export interface Options extends Credentials {
  url: string | URL;
  status?: Status;
  storage?: Storage;
  /** Where unsent messages outlive the page; without it, in memory only. */
  outbox?: OutboxStorage;
  /** How many messages may wait; send() refuses more. Default 1000. */
  outboxMax?: number;
  deviceId?: string;
  WebSocket?: new (url: string, protocols: string[]) => unknown;
  clock?: {
    now(): number;
    setTimeout(fn: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
  };
  random?: () => number;
}

export interface SendOptions {
  type?: string;
  replyTo?: Id;
  attachment?: Attachment;
  clientMessageId?: string;
  clientInitiationTime?: number;
}

/* ---- what the server says ---- */

export interface Reply {
  Command: string;
  Reason: Reason;
  Message?: string;
  [field: string]: any;
}

export interface LoginReply extends Reply {
  UserId: number;
  Name: string;
  SessionId: string;
  Epoch: string;
  FirstSeq: number;
  LastSeq: number;
  Recovered: boolean;
  Users: User[];
  NextCursor: string | null;
  Collaborations: Collaboration[];
  ServerTime: number;
  PingInterval: number;
  HeartbeatInterval: number;
  MaxMessageSize: number;
  /** ms in which one's own can be changed; 0: never. */
  EditWindow?: number;
  Node: string;
}

export interface SendReply extends Reply {
  MessageId: Id;
  ConversationId: Id;
  ServerTime: number;
  Seq?: number;
}

export interface User {
  UserId: number;
  Name: string;
  Status?: Status | 'OFFLINE';
  StatusText?: string;
  LastSeen?: number | null;
  Role?: string;
  Profile?: object | null;
}

export interface Attachment {
  Url: string;
  Name?: string;
  Size?: number;
  MimeType?: string;
}

export interface Message {
  MessageId: Id;
  ConversationId: Id;
  Members?: number[];
  GroupId?: Id;
  CollaborationId?: Id;
  FromUser: { UserId: number; Name: string };
  /** With Type and Attachment absent where it was deleted. */
  Message?: string;
  Type?: string;
  ServerTime: number;
  EditTime?: number;
  Deleted?: true;
  DeleteTime?: number;
  ClientInitiationTime?: number;
  ClientMessageId?: string;
  Seq?: number;
  ReplyTo?: Id;
  Attachment?: Attachment;
}

export interface Receipt {
  UserId: number;
  DeliveredUpTo?: Id;
  ReadUpTo?: Id;
}

/** A group has the fields of Group in the place of Members. */
export interface Conversation extends Partial<Group> {
  ConversationId: Id;
  CollaborationId?: Id;
  Members?: number[];
  UnreadCount: number;
  Receipts?: Receipt[];
  LastMessage?: Message;
  [field: string]: any;
}

export interface MessagePage extends Reply {
  Messages: Message[];
  HasMore: boolean;
}

export interface ConversationPage extends Reply {
  Conversations: Conversation[];
  NextCursor: string | null;
}

export interface Presence {
  UserId: number;
  Status: Status | 'OFFLINE';
  StatusText?: string;
  LastSeen?: number | null;
  InCollaboration?: boolean;
}

export interface GroupMember {
  UserId: number;
  Name: string;
  Role: Role;
  DeliveredUpTo?: Id;
  ReadUpTo?: Id;
}

export interface Group {
  GroupId: Id;
  ConversationId: Id;
  Name: string;
  OwnerId: number;
  MemberCount: number;
  /** One's own. */
  Role: Role | 'NONE';
}

export interface GroupEvent {
  Command: 'P_GROUP';
  Seq: number;
  GroupId: Id;
  ConversationId: Id;
  Event: 'CREATED' | 'UPDATED' | 'LEFT';
  /** Who did it. */
  UserId: number;
  Name: string;
  OwnerId: number;
  MemberCount: number;
  Added?: number[];
  Removed?: number[];
  Role?: { UserId: number; Role: Role }[];
  ServerTime: number;
}

export interface Participant {
  UserId: number;
  State: 'RINGING' | 'JOINED' | 'RECONNECTING' | 'REJECTED' | 'LEFT' |
    'MISSED' | 'BUSY' | 'CANCELLED';
  /** He is in another call or has said so; it rings there or not. */
  Busy?: boolean;
  SessionId?: string;
  [field: string]: any;
}

export interface Collaboration {
  CollaborationId: Id;
  State: 'RINGING' | 'ACTIVE' | 'ENDED';
  Kind: Kind;
  /** Who has made it. */
  FromUser: { UserId: number; Name: string };
  Participants: Participant[];
  Payload?: any;
  [field: string]: any;
}

export interface CollaborationReply extends Reply {
  CollaborationId: Id;
  IceServers?: RTCIceServer[];
}

export interface CollaborationEvent extends Collaboration {
  Command: 'P_COLLABORATION';
  Event: 'INVITED' | 'ACCEPTED' | 'REJECTED' | 'CANCELLED' | 'JOINED' |
    'LEFT' | 'MISSED' | 'ANSWERED_ELSEWHERE' | 'RECONNECTING' | 'REJOINED' |
    'ENDED';
  /** Whom it is about; with INVITED, who has invited. */
  UserId: number;
  /** Where it is about several, and with INVITED. */
  UserIds?: number[];
}

export interface CollaborationOutcome {
  Command: 'P_COLLABORATION_OUTCOME';
  Seq: number;
  CollaborationId: Id;
  Outcome: 'ANSWERED' | 'MISSED' | 'REJECTED' | 'CANCELLED' | 'FAILED';
  Participants?: Participant[];
  [field: string]: any;
}

export interface Signal {
  Command: 'P_SIGNAL';
  CollaborationId: Id;
  FromUserId: number;
  FromSessionId: string;
  Signal: any;
  [field: string]: any;
}

/* ---- events ---- */

/** A message in the outbox, as it will go out. */
export interface Unsent {
  ToUserList?: number[];
  GroupId?: Id;
  CollaborationId?: Id;
  Message: string;
  ClientMessageId: string;
  Type?: string;
  ReplyTo?: Id;
  Attachment?: Attachment;
  ClientInitiationTime?: number;
}

export interface StateDetail {
  state: State;
  previous: State;
  /** ms to the next attempt, with `reconnecting`. */
  delay?: number;
  reason?: Reason;
  message?: string;
  /** With `authenticated`. */
  login?: LoginReply;
}

export interface CloseDetail {
  reason: Reason;
  message?: string;
  retryAfter?: number;
  code?: number;
  willReconnect: boolean;
}

export interface EventDetails {
  message: Message;
  'message-edited': Message & { Command: 'P_EDIT_MESSAGE'; Seq: number };
  /** What stays in its place. */
  'message-deleted': Message & { Command: 'P_DELETE_MESSAGE'; Seq: number;
    Deleted: true; DeleteTime: number };
  receipt: Receipt & { ConversationId: Id };
  presence: Presence;
  typing: { UserId: number; ConversationId: Id;
    State: 'STARTED' | 'STOPPED' };
  group: GroupEvent;
  collaboration: CollaborationEvent;
  'collaboration-outcome': CollaborationOutcome;
  signal: Signal;
  /** A command that this version does not know. */
  event: { Command: string; [field: string]: any };

  state: StateDetail;
  close: CloseDetail;
  /** Events are missing: load the history again. */
  reset: { reason: 'NOT_RECOVERED' | 'EPOCH' | 'GAP' };
  /** Each message of the outbox that is safe on the server; tells of those
   *  that an earlier page has written, too. */
  sent: { message: Unsent; reply: SendReply };
  /** Each that was refused for good. */
  refused: { message: Unsent; error: ParleyError };
  warning: { Command?: string; Reason?: string; Message?: string };
}

export class ParleyError extends Error {
  reason: Reason;
  retryAfter: number;
  reply: Partial<Reply>;
}

/** addEventListener with the type of `detail` known. */
export interface TypedTarget<Details> extends EventTarget {
  addEventListener<K extends keyof Details>(type: K,
    listener: (event: Event & { detail: Details[K] }) => void,
    options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
}

export interface Parley extends TypedTarget<EventDetails> {}
export class Parley {
  constructor(options: Options);
  readonly state: State;
  readonly userId: number | null;
  /** The reply to the login of this connection; null without one. */
  readonly login: LoginReply | null;
  readonly sessionId: string | null;
  readonly lastSeq: number | null;
  readonly deviceId: string;
  readonly unsentCount: number;
  /** What is not yet known to be safe, oldest first. */
  readonly unsent: Unsent[];

  connect(): Promise<LoginReply>;
  authenticate(credentials: Credentials): Promise<LoginReply>;
  /** Deletes what was not sent, also after the end (KICKED, …). */
  logout(options?: { forget?: boolean }): Promise<void>;
  close(): void;
  /** One attempt, and again while the server says UNAVAILABLE or RATE_LIMITED
   *  where the command may be repeated. */
  request(command: string, fields?: object): Promise<Reply>;
  /** The same over reconnects, until it is answered. */
  requestKept(command: string, fields?: object, lane?: string): Promise<Reply>;
  post(command: string, fields?: object): boolean;

  send(to: Target, text: string, opts?: SendOptions): Promise<SendReply>;
  editMessage(messageId: Id, text: string): Promise<Reply>;
  deleteMessage(messageId: Id): Promise<Reply>;
  markRead(conversationId: Id, messageId: Id): Promise<Reply>;
  /** For every key pressed; what goes out is at most one STARTED in 4 s. */
  typing(to: Target, isTyping?: boolean): void;
  getMessages(query: { conversationId?: Id; userId?: number; before?: Id;
    after?: Id; limit?: number }): Promise<MessagePage>;
  /** Newest first, page by page as they are asked for. */
  messages(query: { conversationId?: Id; userId?: number; before?: Id;
    limit?: number }): AsyncGenerator<Message, void>;
  getConversations(page?: { cursor?: string; limit?: number }):
    Promise<ConversationPage>;
  conversations(page?: { limit?: number }):
    AsyncGenerator<Conversation, void>;

  updateStatus(status: Status, statusText?: string): Promise<Reply>;
  getUsers(query?: { limit?: number; refresh?: boolean }): Promise<User[]>;
  getUser(userId: number): Promise<User>;
  updateUser(changes: { name?: string; profile?: object }): Promise<Reply>;
  block(userId: number): Promise<Reply>;
  unblock(userId: number): Promise<Reply>;

  createGroup(name: string, members: number[],
    opts?: { clientGroupId?: string }): Promise<Reply & { GroupId: Id }>;
  updateGroup(groupId: Id, changes: { name?: string; add?: number[];
    remove?: number[]; roles?: { UserId: number; Role: Role }[] }):
    Promise<Reply>;
  leaveGroup(groupId: Id): Promise<Reply>;
  getGroups(): Promise<Group[]>;
  getGroupMembers(groupId: Id): Promise<GroupMember[]>;

  /* parley-call.js does all of these by itself. */
  createCollaboration(to: number | number[], opts?: { kind?: Kind;
    payload?: any; clientCollaborationId?: string }):
    Promise<CollaborationReply>;
  acceptCollaboration(id: Id): Promise<CollaborationReply>;
  rejectCollaboration(id: Id): Promise<Reply>;
  cancelCollaboration(id: Id): Promise<Reply>;
  inviteToCollaboration(id: Id, to: number | number[]): Promise<Reply>;
  leaveCollaboration(id: Id): Promise<Reply>;
  endCollaboration(id: Id): Promise<Reply>;
  /** Answered: OK handed on; rejected with UNAVAILABLE: not. */
  signal(id: Id, userId: number, signal: any, sessionId?: string):
    Promise<Reply>;
  /** Past ones, newest first, page by page as they are asked for. */
  collaborationHistory(query?: { before?: Id; limit?: number }):
    AsyncGenerator<any, void>;

  registerDevice(platform: 'ANDROID' | 'IOS' | 'WEB', pushToken: string):
    Promise<Reply>;
  unregisterDevice(): Promise<Reply>;
}

export function newId(): string;
export function compareIds(a: Id, b: Id): number;
