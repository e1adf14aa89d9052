/* parley.d.ts - the types of parley.js; the words are in the sources. */

export type Id = string;
export type Status = 'ONLINE' | 'AWAY' | 'BUSY' | 'INVISIBLE';
export type State = 'idle' | 'connecting' | 'open' | 'authenticated' |
  'reconnecting' | 'closed';
export type Target = number | number[] | { ToUserList: number[] } |
  { GroupId: Id } | { CollaborationId: Id };

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

export interface Options extends Credentials {
  url: string | URL;
  status?: Status;
  storage?: Storage;
  deviceId?: string;
  WebSocket?: new (url: string, protocols: string[]) => unknown;
  clock?: {
    now(): number;
    setTimeout(fn: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
  };
  random?: () => number;
}

export interface Reply {
  Command: string;
  Reason: string;
  Message?: string;
  [field: string]: any;
}

export interface User {
  UserId: number;
  Name: string;
  Status?: Status | 'OFFLINE';
  StatusText?: string;
  LastSeen?: number;
  Role?: string;
  Profile?: object;
}

export interface Message {
  MessageId: Id;
  ConversationId: Id;
  Members?: number[];
  GroupId?: Id;
  CollaborationId?: Id;
  FromUser: { UserId: number; Name: string };
  Message: string;
  Type: string;
  ServerTime: number;
  ClientInitiationTime?: number;
  ClientMessageId?: string;
  Seq?: number;
  ReplyTo?: Id;
  Attachment?: Attachment;
}

export interface Attachment {
  Url: string;
  Name?: string;
  Size?: number;
  MimeType?: string;
}

export interface SendOptions {
  type?: string;
  replyTo?: Id;
  attachment?: Attachment;
  clientMessageId?: string;
  clientInitiationTime?: number;
}

export interface StateDetail {
  state: State;
  previous: State;
  delay?: number;
  reason?: string;
  message?: string;
  login?: Reply;
}

export interface CloseDetail {
  reason: string;
  message?: string;
  retryAfter?: number;
  code?: number;
  willReconnect: boolean;
}

export interface EventDetails {
  message: Message;
  receipt: { ConversationId: Id; UserId: number; DeliveredUpTo?: Id;
    ReadUpTo?: Id };
  presence: { UserId: number; Status: Status | 'OFFLINE';
    StatusText?: string; LastSeen?: number; InCollaboration?: boolean };
  typing: { UserId: number; ConversationId: Id;
    State: 'STARTED' | 'STOPPED' };
  state: StateDetail;
  close: CloseDetail;
  reset: { reason: 'NOT_RECOVERED' | 'EPOCH' | 'GAP' };
  warning: { Command?: string; Reason?: string; Message?: string };
}

export class ParleyError extends Error {
  reason: string;
  retryAfter: number;
  reply: Partial<Reply>;
}

export class Parley extends EventTarget {
  constructor(options: Options);
  readonly state: State;
  readonly userId: number | null;
  readonly lastSeq: number | null;
  readonly deviceId: string;
  readonly unsentCount: number;

  connect(): Promise<Reply>;
  authenticate(credentials: Credentials): Promise<Reply>;
  logout(options?: { forget?: boolean }): Promise<void>;
  close(): void;
  request(command: string, fields?: object): Promise<Reply>;
  post(command: string, fields?: object): boolean;

  send(to: Target, text: string, opts?: SendOptions): Promise<Reply>;
  editMessage(messageId: Id, text: string): Promise<Reply>;
  deleteMessage(messageId: Id): Promise<Reply>;
  markRead(conversationId: Id, messageId: Id): Promise<Reply>;
  typing(to: Target, isTyping?: boolean): void;
  getMessages(query: { conversationId?: Id; userId?: number; before?: Id;
    after?: Id; limit?: number }): Promise<Reply>;
  getConversations(page?: { cursor?: string; limit?: number }): Promise<Reply>;
  getUsers(query?: { limit?: number; refresh?: boolean }): Promise<User[]>;
  getUser(userId: number): Promise<User>;
  updateUser(changes: { name?: string; profile?: object }): Promise<Reply>;
  updateStatus(status: Status, statusText?: string): Promise<Reply>;
  block(userId: number): Promise<Reply>;
  unblock(userId: number): Promise<Reply>;

  addEventListener<K extends keyof EventDetails>(type: K,
    listener: (event: Event & { detail: EventDetails[K] }) => void,
    options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string,
    listener: (event: Event & { detail: any }) => void,
    options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
}

export function newId(): string;
export function compareIds(a: Id, b: Id): number;
