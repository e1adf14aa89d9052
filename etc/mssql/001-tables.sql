-- 001-tables.sql - what is kept, and how it is found.
--
-- T-SQL for SQL Server 2016 SP1 and later, compatibility level 130 and later.
-- Run by "parleyctl db migrate" or by "sqlcmd -b -I -i" into a database of its
-- own; batches end at a line GO. Run twice it changes nothing.
--
-- All times are UTC. All ids are the server's. There are no foreign keys: what
-- happened is written behind, and a row that was refused and is retried later
-- may come after rows that name it.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
SET XACT_ABORT ON;
SET NOCOUNT ON;
GO
-- Tables and procedures of somebody else may have our names. They would be
-- taken for ours, or be replaced: then nothing at all is done.
IF OBJECT_ID(N'dbo.ParleyVersion', N'U') IS NULL
  AND EXISTS (
    SELECT 1
    FROM sys.objects AS o
    WHERE o.schema_id = SCHEMA_ID(N'dbo')
      AND (o.name IN (N'Users', N'UserContacts', N'Messages', N'MessageRecipients', N'Receipts',
             N'Groups', N'GroupMembers', N'Collaborations', N'CollaborationParticipants',
             N'DeviceTokens')
           OR o.name LIKE N'COB[_]%' OR o.name LIKE N'Message[_]%' OR o.name LIKE N'Parley%'))
  THROW 50001, N'this database has tables or procedures of these names that are not of parley', 1;
GO
-- What was run here: one row for each file. parleyctl keeps it.
IF OBJECT_ID(N'dbo.ParleyVersion', N'U') IS NULL
CREATE TABLE dbo.ParleyVersion (
  Number    INT           NOT NULL,
  Name      NVARCHAR(128) NOT NULL,
  Checksum  CHAR(32)      NOT NULL, -- the first half of SHA-256 of the file
  AppliedAt DATETIME2(3)  NOT NULL CONSTRAINT DF_ParleyVersion_AppliedAt DEFAULT (SYSUTCDATETIME()),
  CONSTRAINT PK_ParleyVersion PRIMARY KEY CLUSTERED (Number)
);
GO
-- One row. Who writes a batch holds it until he commits, so batches come one
-- after the other, also those of a connection that was given up.
IF OBJECT_ID(N'dbo.ParleyWriter', N'U') IS NULL
CREATE TABLE dbo.ParleyWriter (
  Id        TINYINT      NOT NULL,
  Batches   BIGINT       NOT NULL,
  WrittenAt DATETIME2(3) NULL,
  CONSTRAINT PK_ParleyWriter PRIMARY KEY CLUSTERED (Id),
  CONSTRAINT CK_ParleyWriter_Id CHECK (Id = 1)
);
GO
INSERT dbo.ParleyWriter (Id, Batches)
SELECT 1, 0
WHERE NOT EXISTS (SELECT 1 FROM dbo.ParleyWriter WHERE Id = 1);
GO
-- The owner of the database puts users in; the server changes names, profiles
-- and statuses. Names are compared exactly, also in case of letters.
-- PasswordHash: "$scrypt$ln=15,r=8,p=1$salt$hash"; NULL: no password opens it.
-- UpdatedAt: set it whenever a user is changed; a status does not count.
IF OBJECT_ID(N'dbo.Users', N'U') IS NULL
CREATE TABLE dbo.Users (
  UserId       BIGINT        NOT NULL,
  LoginName    NVARCHAR(128) COLLATE Latin1_General_100_BIN2 NOT NULL,
  DisplayName  NVARCHAR(128) NOT NULL,
  Role         NVARCHAR(64)  NULL,
  Profile      NVARCHAR(MAX) NULL,
  PasswordHash VARCHAR(160)  NULL,
  IsActive     BIT           NOT NULL CONSTRAINT DF_Users_IsActive DEFAULT (1),
  Status       NVARCHAR(16)  NULL,
  StatusText   NVARCHAR(256) NULL,
  StatusAt     DATETIME2(3)  NULL,
  StatusNumber BIGINT        NOT NULL CONSTRAINT DF_Users_StatusNumber DEFAULT (0),
  UpdatedAt    DATETIME2(3)  NOT NULL CONSTRAINT DF_Users_UpdatedAt DEFAULT (SYSUTCDATETIME()),
  CONSTRAINT PK_Users PRIMARY KEY CLUSTERED (UserId),
  CONSTRAINT CK_Users_UserId CHECK (UserId > 0),
  CONSTRAINT CK_Users_Profile CHECK (Profile IS NULL OR ISJSON(Profile) = 1)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Users') AND name = N'UX_Users_LoginName')
CREATE UNIQUE INDEX UX_Users_LoginName ON dbo.Users (LoginName);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Users') AND name = N'IX_Users_UpdatedAt')
CREATE INDEX IX_Users_UpdatedAt ON dbo.Users (UpdatedAt, UserId);
GO
-- ContactId is in the list of UserId, who sees him and may write to him. For
-- two who see each other there are two rows.
IF OBJECT_ID(N'dbo.UserContacts', N'U') IS NULL
CREATE TABLE dbo.UserContacts (
  UserId    BIGINT       NOT NULL,
  ContactId BIGINT       NOT NULL,
  AddedAt   DATETIME2(3) NOT NULL CONSTRAINT DF_UserContacts_AddedAt DEFAULT (SYSUTCDATETIME()),
  CONSTRAINT PK_UserContacts PRIMARY KEY CLUSTERED (UserId, ContactId),
  CONSTRAINT CK_UserContacts_ContactId CHECK (ContactId <> UserId)
);
GO
-- ConversationId: "1-2" of two users, "g7" of a group, "c9" of a call, "m" and
-- 32 hex digits of several users.
-- ReceiverId: of a message for one user; NULL: see MessageRecipients, and of
-- a group or a call its members.
-- A deleted message keeps its row: no text, no type, no attachment.
-- ChangeNumber orders edits of one millisecond.
-- MessageId grows with time, so the table grows at its end.
IF OBJECT_ID(N'dbo.Messages', N'U') IS NULL
CREATE TABLE dbo.Messages (
  MessageId      BIGINT           NOT NULL,
  MessageGuid    UNIQUEIDENTIFIER NOT NULL,
  ConversationId VARCHAR(40)      NOT NULL,
  SenderId       BIGINT           NOT NULL,
  ReceiverId     BIGINT           NULL,
  MessageType    NVARCHAR(64)     NOT NULL,
  Body           NVARCHAR(MAX)    NOT NULL,
  Attachment     NVARCHAR(MAX)    NULL,
  ReplyToId      BIGINT           NULL,
  ClientTime     DATETIME2(3)     NULL,
  CreatedAt      DATETIME2(3)     NOT NULL,
  EditedAt       DATETIME2(3)     NULL,
  DeletedAt      DATETIME2(3)     NULL,
  ChangeNumber   BIGINT           NOT NULL CONSTRAINT DF_Messages_ChangeNumber DEFAULT (0),
  StoredAt       DATETIME2(3)     NOT NULL CONSTRAINT DF_Messages_StoredAt DEFAULT (SYSUTCDATETIME()),
  CONSTRAINT PK_Messages PRIMARY KEY CLUSTERED (MessageId)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'UX_Messages_Guid')
CREATE UNIQUE INDEX UX_Messages_Guid ON dbo.Messages (MessageGuid) WITH (FILLFACTOR = 80);
GO
-- History of a conversation, page by page.
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'IX_Messages_Conversation')
CREATE INDEX IX_Messages_Conversation ON dbo.Messages (ConversationId, MessageId DESC);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'IX_Messages_SenderId')
CREATE INDEX IX_Messages_SenderId ON dbo.Messages (SenderId);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'IX_Messages_ReceiverId')
CREATE INDEX IX_Messages_ReceiverId ON dbo.Messages (ReceiverId);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'IX_Messages_CreatedAt')
CREATE INDEX IX_Messages_CreatedAt ON dbo.Messages (CreatedAt DESC);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Messages') AND name = N'IX_Messages_Receiver_Date')
CREATE INDEX IX_Messages_Receiver_Date ON dbo.Messages (ReceiverId, CreatedAt DESC);
GO
-- To whom a message went, but for the sender; not of groups and calls.
IF OBJECT_ID(N'dbo.MessageRecipients', N'U') IS NULL
CREATE TABLE dbo.MessageRecipients (
  ReceiverId BIGINT NOT NULL,
  MessageId  BIGINT NOT NULL,
  CONSTRAINT PK_MessageRecipients PRIMARY KEY CLUSTERED (ReceiverId, MessageId DESC)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.MessageRecipients') AND name = N'UX_MessageRecipients_Message')
CREATE UNIQUE INDEX UX_MessageRecipients_Message ON dbo.MessageRecipients (MessageId, ReceiverId);
GO
-- Kind "delivered", "read": UserId has all of the conversation up to MessageId.
IF OBJECT_ID(N'dbo.Receipts', N'U') IS NULL
CREATE TABLE dbo.Receipts (
  ConversationId VARCHAR(40)  NOT NULL,
  UserId         BIGINT       NOT NULL,
  Kind           VARCHAR(9)   NOT NULL,
  MessageId      BIGINT       NOT NULL,
  ReceivedAt     DATETIME2(3) NOT NULL,
  CONSTRAINT PK_Receipts PRIMARY KEY CLUSTERED (ConversationId, UserId, Kind),
  CONSTRAINT CK_Receipts_Kind CHECK (Kind IN ('delivered', 'read'))
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Receipts') AND name = N'IX_Receipts_UserId')
CREATE INDEX IX_Receipts_UserId ON dbo.Receipts (UserId);
GO
-- ChangeNumber orders changes of one millisecond, here and below.
IF OBJECT_ID(N'dbo.Groups', N'U') IS NULL
CREATE TABLE dbo.Groups (
  GroupId      BIGINT        NOT NULL,
  Name         NVARCHAR(128) NOT NULL,
  ChangedAt    DATETIME2(3)  NOT NULL,
  ChangeNumber BIGINT        NOT NULL,
  CONSTRAINT PK_Groups PRIMARY KEY CLUSTERED (GroupId)
);
GO
-- Everybody who is or was in a group, as he is now. Role NULL: he has left.
IF OBJECT_ID(N'dbo.GroupMembers', N'U') IS NULL
CREATE TABLE dbo.GroupMembers (
  GroupId      BIGINT       NOT NULL,
  UserId       BIGINT       NOT NULL,
  Role         NVARCHAR(16) NULL,
  ChangedAt    DATETIME2(3) NOT NULL,
  ChangeNumber BIGINT       NOT NULL,
  CONSTRAINT PK_GroupMembers PRIMARY KEY CLUSTERED (GroupId, UserId)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.GroupMembers') AND name = N'IX_GroupMembers_UserId')
CREATE INDEX IX_GroupMembers_UserId ON dbo.GroupMembers (UserId);
GO
-- Calls that have ended.
IF OBJECT_ID(N'dbo.Collaborations', N'U') IS NULL
CREATE TABLE dbo.Collaborations (
  CollaborationId   BIGINT           NOT NULL,
  CollaborationGuid UNIQUEIDENTIFIER NOT NULL,
  Kind              NVARCHAR(16)     NOT NULL,
  CreatorId         BIGINT           NOT NULL,
  CreatedAt         DATETIME2(3)     NOT NULL,
  EndedAt           DATETIME2(3)     NOT NULL,
  Outcome           NVARCHAR(16)     NOT NULL,
  CONSTRAINT PK_Collaborations PRIMARY KEY CLUSTERED (CollaborationId)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Collaborations') AND name = N'UX_Collaborations_Guid')
CREATE UNIQUE INDEX UX_Collaborations_Guid ON dbo.Collaborations (CollaborationGuid) WITH (FILLFACTOR = 80);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.Collaborations') AND name = N'IX_Collaborations_CreatedAt')
CREATE INDEX IX_Collaborations_CreatedAt ON dbo.Collaborations (CreatedAt DESC);
GO
-- Who was asked. JoinedAt and LeftAt NULL: he never was in it.
IF OBJECT_ID(N'dbo.CollaborationParticipants', N'U') IS NULL
CREATE TABLE dbo.CollaborationParticipants (
  UserId          BIGINT       NOT NULL,
  CollaborationId BIGINT       NOT NULL,
  Outcome         NVARCHAR(16) NOT NULL,
  JoinedAt        DATETIME2(3) NULL,
  LeftAt          DATETIME2(3) NULL,
  CONSTRAINT PK_CollaborationParticipants PRIMARY KEY CLUSTERED (UserId, CollaborationId DESC)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.CollaborationParticipants') AND name = N'UX_CollaborationParticipants_Call')
CREATE UNIQUE INDEX UX_CollaborationParticipants_Call ON dbo.CollaborationParticipants (CollaborationId, UserId);
GO
-- For push. A token may be longer than a key, so its SHA-256 is the key.
-- DeletedAt: it is not to be used any more; an older "put" does not bring it
-- back.
IF OBJECT_ID(N'dbo.DeviceTokens', N'U') IS NULL
CREATE TABLE dbo.DeviceTokens (
  TokenHash BINARY(32)    NOT NULL,
  UserId    BIGINT        NOT NULL,
  Platform  NVARCHAR(16)  NOT NULL,
  Token     VARCHAR(4096) NOT NULL,
  ChangedAt DATETIME2(3)  NOT NULL,
  DeletedAt DATETIME2(3)  NULL,
  CONSTRAINT PK_DeviceTokens PRIMARY KEY NONCLUSTERED (TokenHash)
);
GO
IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE object_id = OBJECT_ID(N'dbo.DeviceTokens') AND name = N'IX_DeviceTokens_UserId')
CREATE CLUSTERED INDEX IX_DeviceTokens_UserId ON dbo.DeviceTokens (UserId);
GO
