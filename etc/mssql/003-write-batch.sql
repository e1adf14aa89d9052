-- 003-write-batch.sql - what happened, written behind by the server.
--
-- Parley_Write_Batch takes a JSON array of rows, applies all of them or none,
-- and answers one row: Written, rows that changed something, and Known, rows
-- whose news were there already; together all rows. Each has "n", its number
-- in the server's outbox, and "k", its kind; times are UTC, as
-- 2026-12-01T10:20:30.123; what is absent is NULL.
--
--   message    i id, g GUID, v conversation, s sender, t time, y type, b body,
--              r replied to, x the client's time, a attachment (JSON as text),
--              e edited, d deleted, o receivers (not of groups and calls)
--   edit       i id, t time, b body
--   delete     i id, t time
--   delivered  v conversation, u user, i up to this id, t time
--   read       the same
--   status     u user, c status, x text, t time
--   group      i id, x name, t time
--   member     i group, u user, c role (absent: has left), t time
--   call       i id, g GUID, y kind, s creator, t created, e ended, c outcome,
--              p participants: u user, c outcome, t joined, e left
--
-- Rows may come again, with others, in parallel, and late. What is there in
-- the end is the same:
--   * Batches hold dbo.ParleyWriter one after the other. One whose connection
--     was given up, and which comes again, is there as a whole by then, or
--     comes after it and finds its news known, or was rolled back.
--   * A message is inserted once, by id and GUID together. An id or a GUID
--     that another message has is a duplicate key and no row of the batch is
--     written: the server finds out which it is.
--   * An edit is written when it is newer than what is there, by time, then by
--     number; a delete for good. A message says what it is like now: one that
--     is there takes its edit or delete from it, and one that comes late
--     brings the edits with it that found nothing to change.
--   * Of receipts the greatest id counts; of a status, a group, a member the
--     newest time, then the highest number; of a call the latest end.
--     A dead letter that is retried has a new number: against another status,
--     name or role of the same millisecond it then wins.
-- A row that lacks what it needs is refused by a constraint of @Row (547, 515).
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO
-- All of @Rows or none. Answers Written and Known, together their number.
-- Errors: of a row 547, 515, 2628, 8114 and other conversions; 2627 or 2601 for
-- an id or a GUID of another message; 50002, 50003 for none.
CREATE OR ALTER PROCEDURE dbo.Parley_Write_Batch
  @Rows NVARCHAR(MAX)
AS
BEGIN
  SET NOCOUNT ON;
  SET XACT_ABORT ON;
  DECLARE @Total INT;
  DECLARE @Written INT = 0;
  DECLARE @Changed INT;

  -- In the order of their numbers: RowNo decides between rows of one time.
  DECLARE @Row TABLE (
    RowNo          INT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    Number         BIGINT           NOT NULL,
    Kind           VARCHAR(16)      NOT NULL,
    Id             BIGINT           NULL,
    Guid           UNIQUEIDENTIFIER NULL,
    ConversationId VARCHAR(40)      NULL,
    UserId         BIGINT           NULL,
    SenderId       BIGINT           NULL,
    HappenedAt     DATETIME2(3)     NULL,
    EndedAt        DATETIME2(3)     NULL,
    DeletedAt      DATETIME2(3)     NULL,
    ReplyToId      BIGINT           NULL,
    Code           NVARCHAR(16)     NULL,
    TypeName       NVARCHAR(64)     NULL,
    Text           NVARCHAR(256)    NULL,
    Body           NVARCHAR(MAX)    NULL,
    Attachment     NVARCHAR(MAX)    NULL,
    Receivers      NVARCHAR(MAX)    NULL,
    Participants   NVARCHAR(MAX)    NULL,
    CHECK (Kind NOT IN ('message', 'edit', 'delete', 'delivered', 'read', 'group', 'member', 'call')
           OR (Id IS NOT NULL AND Id > 0)),
    CHECK (Kind NOT IN ('message', 'edit', 'delete', 'delivered', 'read', 'status', 'group', 'member', 'call')
           OR HappenedAt IS NOT NULL),
    CHECK (Kind NOT IN ('delivered', 'read', 'status', 'member') OR (UserId IS NOT NULL AND UserId > 0)),
    CHECK (Kind NOT IN ('message', 'delivered', 'read') OR ConversationId IS NOT NULL),
    CHECK (Kind NOT IN ('message', 'call') OR (Guid IS NOT NULL AND SenderId IS NOT NULL AND SenderId > 0)),
    CHECK (Kind <> 'message' OR DeletedAt IS NOT NULL OR Body IS NOT NULL),
    CHECK (Kind <> 'edit' OR Body IS NOT NULL),
    CHECK (Kind NOT IN ('status', 'call') OR Code IS NOT NULL),
    CHECK (Kind <> 'group' OR Text IS NOT NULL),
    CHECK (Kind <> 'call' OR (EndedAt IS NOT NULL AND TypeName IS NOT NULL)));
  DECLARE @Receipt TABLE (
    ConversationId VARCHAR(40)  NOT NULL,
    UserId         BIGINT       NOT NULL,
    Kind           VARCHAR(9)   NOT NULL,
    MessageId      BIGINT       NOT NULL,
    ReceivedAt     DATETIME2(3) NOT NULL,
    PRIMARY KEY (ConversationId, UserId, Kind));
  DECLARE @Group TABLE (
    GroupId      BIGINT        NOT NULL PRIMARY KEY,
    Name         NVARCHAR(128) NOT NULL,
    ChangedAt    DATETIME2(3)  NOT NULL,
    ChangeNumber BIGINT        NOT NULL);
  DECLARE @Member TABLE (
    GroupId      BIGINT       NOT NULL,
    UserId       BIGINT       NOT NULL,
    Role         NVARCHAR(16) NULL,
    ChangedAt    DATETIME2(3) NOT NULL,
    ChangeNumber BIGINT       NOT NULL,
    PRIMARY KEY (GroupId, UserId));
  DECLARE @Participant TABLE (
    CollaborationId BIGINT       NOT NULL,
    UserId          BIGINT       NOT NULL,
    RowNo           INT          NOT NULL,
    EndedAt         DATETIME2(3) NOT NULL,
    Outcome         NVARCHAR(16) NOT NULL,
    JoinedAt        DATETIME2(3) NULL,
    LeftAt          DATETIME2(3) NULL,
    PRIMARY KEY (CollaborationId, UserId));

  BEGIN TRY
    BEGIN TRANSACTION;

    UPDATE dbo.ParleyWriter SET Batches = Batches + 1, WrittenAt = SYSUTCDATETIME() WHERE Id = 1;
    SET @Changed = @@ROWCOUNT;
    IF @Changed <> 1
      THROW 50003, N'dbo.ParleyWriter has lost its row: run the migrations again', 1;

    INSERT @Row (Number, Kind, Id, Guid, ConversationId, UserId, SenderId, HappenedAt, EndedAt, DeletedAt,
      ReplyToId, Code, TypeName, Text, Body, Attachment, Receivers, Participants)
    SELECT j.n, j.k, j.i, j.g, j.v, j.u, j.s, j.t, j.e, j.d, j.r, j.c, j.y, j.x, j.b, j.a, j.o, j.p
    FROM OPENJSON(@Rows) WITH (
      n BIGINT '$.n', k NVARCHAR(MAX) '$.k', i BIGINT '$.i', g UNIQUEIDENTIFIER '$.g',
      v NVARCHAR(MAX) '$.v', u BIGINT '$.u', s BIGINT '$.s', t DATETIME2(3) '$.t',
      e DATETIME2(3) '$.e', d DATETIME2(3) '$.d', r BIGINT '$.r', c NVARCHAR(MAX) '$.c',
      y NVARCHAR(MAX) '$.y', x NVARCHAR(MAX) '$.x', b NVARCHAR(MAX) '$.b', a NVARCHAR(MAX) '$.a',
      o NVARCHAR(MAX) '$.o' AS JSON, p NVARCHAR(MAX) '$.p' AS JSON) AS j
    ORDER BY j.n;
    SET @Total = @@ROWCOUNT;

    -- A newer server: no row's fault, so none is refused, and all wait.
    IF EXISTS (
      SELECT 1 FROM @Row AS r
      WHERE r.Kind NOT IN ('message', 'edit', 'delete', 'delivered', 'read', 'status', 'group', 'member', 'call'))
      THROW 50002, N'a row is of a kind that this version does not know: run the newer migrations', 1;

    -- ---- messages ----

    WITH Newest AS (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.Id, r.Guid ORDER BY r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'message')
    INSERT dbo.Messages (MessageId, MessageGuid, ConversationId, SenderId, ReceiverId, MessageType, Body,
      Attachment, ReplyToId, ClientTime, CreatedAt, EditedAt, DeletedAt, ChangeNumber)
    SELECT r.Id, r.Guid, r.ConversationId, r.SenderId,
      CASE WHEN JSON_VALUE(r.Receivers, '$[1]') IS NULL THEN CAST(JSON_VALUE(r.Receivers, '$[0]') AS BIGINT) END,
      CASE WHEN r.DeletedAt IS NULL THEN COALESCE(r.TypeName, N'') ELSE N'' END,
      CASE WHEN r.DeletedAt IS NULL THEN COALESCE(r.Body, N'') ELSE N'' END,
      CASE WHEN r.DeletedAt IS NULL THEN r.Attachment END,
      r.ReplyToId,
      TRY_CAST(r.Text AS DATETIME2(3)), -- only the client's clock says it
      r.HappenedAt,
      CASE WHEN r.DeletedAt IS NULL THEN r.EndedAt END,
      r.DeletedAt,
      CASE WHEN r.DeletedAt IS NULL AND r.EndedAt IS NOT NULL THEN r.Number ELSE 0 END
    FROM Newest AS r
    WHERE r.Place = 1
      AND NOT EXISTS (SELECT 1 FROM dbo.Messages AS m WHERE m.MessageId = r.Id AND m.MessageGuid = r.Guid);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    INSERT dbo.MessageRecipients (ReceiverId, MessageId)
    SELECT DISTINCT CAST(o.[value] AS BIGINT), r.Id
    FROM @Row AS r
    CROSS APPLY OPENJSON(r.Receivers) AS o
    WHERE r.Kind = 'message'
      AND NOT EXISTS (
        SELECT 1 FROM dbo.MessageRecipients AS q
        WHERE q.MessageId = r.Id AND q.ReceiverId = CAST(o.[value] AS BIGINT));

    WITH Edit AS (
      SELECT x.Id, x.EditedAt, x.Number, x.Body,
        ROW_NUMBER() OVER (PARTITION BY x.Id ORDER BY x.EditedAt DESC, x.RowNo DESC) AS Place
      FROM (
        SELECT r.RowNo, r.Id, r.Number, r.Body,
          CASE WHEN r.Kind = 'edit' THEN r.HappenedAt ELSE r.EndedAt END AS EditedAt
        FROM @Row AS r
        WHERE r.Kind = 'edit'
          OR (r.Kind = 'message' AND r.EndedAt IS NOT NULL AND r.DeletedAt IS NULL)) AS x)
    UPDATE m
    SET Body = COALESCE(e.Body, N''), EditedAt = e.EditedAt, ChangeNumber = e.Number
    FROM dbo.Messages AS m
    JOIN Edit AS e ON e.Id = m.MessageId
    WHERE e.Place = 1
      AND m.DeletedAt IS NULL
      AND (m.EditedAt IS NULL OR m.EditedAt < e.EditedAt
           OR (m.EditedAt = e.EditedAt AND m.ChangeNumber < e.Number));
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    WITH Gone AS (
      SELECT r.Id, MIN(CASE WHEN r.Kind = 'delete' THEN r.HappenedAt ELSE r.DeletedAt END) AS DeletedAt
      FROM @Row AS r
      WHERE r.Kind = 'delete' OR (r.Kind = 'message' AND r.DeletedAt IS NOT NULL)
      GROUP BY r.Id)
    UPDATE m
    SET MessageType = N'', Body = N'', Attachment = NULL, EditedAt = NULL, ChangeNumber = 0, DeletedAt = g.DeletedAt
    FROM dbo.Messages AS m
    JOIN Gone AS g ON g.Id = m.MessageId
    WHERE m.DeletedAt IS NULL OR g.DeletedAt < m.DeletedAt;
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    -- ---- receipts ----

    INSERT @Receipt (ConversationId, UserId, Kind, MessageId, ReceivedAt)
    SELECT x.ConversationId, x.UserId, x.Kind, x.Id, x.HappenedAt
    FROM (
      SELECT r.*,
        ROW_NUMBER() OVER (PARTITION BY r.ConversationId, r.UserId, r.Kind ORDER BY r.Id DESC, r.RowNo) AS Place
      FROM @Row AS r
      WHERE r.Kind IN ('delivered', 'read')) AS x
    WHERE x.Place = 1;

    UPDATE q
    SET MessageId = r.MessageId, ReceivedAt = r.ReceivedAt
    FROM dbo.Receipts AS q
    JOIN @Receipt AS r ON r.ConversationId = q.ConversationId AND r.UserId = q.UserId AND r.Kind = q.Kind
    WHERE q.MessageId < r.MessageId;
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    INSERT dbo.Receipts (ConversationId, UserId, Kind, MessageId, ReceivedAt)
    SELECT r.ConversationId, r.UserId, r.Kind, r.MessageId, r.ReceivedAt
    FROM @Receipt AS r
    WHERE NOT EXISTS (
      SELECT 1 FROM dbo.Receipts AS q
      WHERE q.ConversationId = r.ConversationId AND q.UserId = r.UserId AND q.Kind = r.Kind);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    -- ---- statuses; of somebody who is no user here there is none ----

    WITH Newest AS (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.UserId ORDER BY r.HappenedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'status')
    UPDATE u
    SET Status = r.Code, StatusText = COALESCE(r.Text, N''), StatusAt = r.HappenedAt, StatusNumber = r.Number
    FROM dbo.Users AS u
    JOIN Newest AS r ON r.UserId = u.UserId
    WHERE r.Place = 1
      AND (u.StatusAt IS NULL OR u.StatusAt < r.HappenedAt
           OR (u.StatusAt = r.HappenedAt AND u.StatusNumber < r.Number));
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    -- ---- groups and their members ----

    INSERT @Group (GroupId, Name, ChangedAt, ChangeNumber)
    SELECT x.Id, x.Text, x.HappenedAt, x.Number
    FROM (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.Id ORDER BY r.HappenedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'group') AS x
    WHERE x.Place = 1;

    UPDATE g
    SET Name = r.Name, ChangedAt = r.ChangedAt, ChangeNumber = r.ChangeNumber
    FROM dbo.Groups AS g
    JOIN @Group AS r ON r.GroupId = g.GroupId
    WHERE g.ChangedAt < r.ChangedAt OR (g.ChangedAt = r.ChangedAt AND g.ChangeNumber < r.ChangeNumber);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    INSERT dbo.Groups (GroupId, Name, ChangedAt, ChangeNumber)
    SELECT r.GroupId, r.Name, r.ChangedAt, r.ChangeNumber
    FROM @Group AS r
    WHERE NOT EXISTS (SELECT 1 FROM dbo.Groups AS g WHERE g.GroupId = r.GroupId);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    INSERT @Member (GroupId, UserId, Role, ChangedAt, ChangeNumber)
    SELECT x.Id, x.UserId, x.Code, x.HappenedAt, x.Number
    FROM (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.Id, r.UserId ORDER BY r.HappenedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'member') AS x
    WHERE x.Place = 1;

    UPDATE g
    SET Role = r.Role, ChangedAt = r.ChangedAt, ChangeNumber = r.ChangeNumber
    FROM dbo.GroupMembers AS g
    JOIN @Member AS r ON r.GroupId = g.GroupId AND r.UserId = g.UserId
    WHERE g.ChangedAt < r.ChangedAt OR (g.ChangedAt = r.ChangedAt AND g.ChangeNumber < r.ChangeNumber);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    INSERT dbo.GroupMembers (GroupId, UserId, Role, ChangedAt, ChangeNumber)
    SELECT r.GroupId, r.UserId, r.Role, r.ChangedAt, r.ChangeNumber
    FROM @Member AS r
    WHERE NOT EXISTS (
      SELECT 1 FROM dbo.GroupMembers AS g WHERE g.GroupId = r.GroupId AND g.UserId = r.UserId);
    SET @Changed = @@ROWCOUNT;
    SET @Written = @Written + @Changed;

    -- ---- calls; one of many participants comes as several rows ----

    INSERT @Participant (CollaborationId, UserId, RowNo, EndedAt, Outcome, JoinedAt, LeftAt)
    SELECT x.Id, x.UserId, x.RowNo, x.EndedAt, x.Outcome, x.JoinedAt, x.LeftAt
    FROM (
      SELECT r.Id, p.u AS UserId, r.RowNo, r.EndedAt, p.c AS Outcome, p.t AS JoinedAt, p.e AS LeftAt,
        ROW_NUMBER() OVER (PARTITION BY r.Id, p.u ORDER BY r.EndedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      CROSS APPLY OPENJSON(r.Participants) WITH (
        u BIGINT '$.u', c NVARCHAR(MAX) '$.c', t DATETIME2(3) '$.t', e DATETIME2(3) '$.e') AS p
      WHERE r.Kind = 'call') AS x
    WHERE x.Place = 1;

    -- A row has news when its call or one of its participants is not there,
    -- or was written with an earlier end.
    SELECT @Changed = COUNT(*)
    FROM @Row AS r
    WHERE r.Kind = 'call'
      AND (NOT EXISTS (
             SELECT 1 FROM dbo.Collaborations AS c
             WHERE c.CollaborationId = r.Id AND c.CollaborationGuid = r.Guid AND c.EndedAt >= r.EndedAt)
           OR EXISTS (
             SELECT 1 FROM @Participant AS p
             WHERE p.CollaborationId = r.Id AND p.RowNo = r.RowNo
               AND NOT EXISTS (
                 SELECT 1 FROM dbo.CollaborationParticipants AS q
                 WHERE q.CollaborationId = p.CollaborationId AND q.UserId = p.UserId)));
    SET @Written = @Written + @Changed;

    UPDATE q
    SET Outcome = p.Outcome, JoinedAt = p.JoinedAt, LeftAt = p.LeftAt
    FROM dbo.CollaborationParticipants AS q
    JOIN @Participant AS p ON p.CollaborationId = q.CollaborationId AND p.UserId = q.UserId
    JOIN dbo.Collaborations AS c ON c.CollaborationId = p.CollaborationId
    WHERE c.EndedAt < p.EndedAt;

    INSERT dbo.CollaborationParticipants (UserId, CollaborationId, Outcome, JoinedAt, LeftAt)
    SELECT p.UserId, p.CollaborationId, p.Outcome, p.JoinedAt, p.LeftAt
    FROM @Participant AS p
    WHERE NOT EXISTS (
      SELECT 1 FROM dbo.CollaborationParticipants AS q
      WHERE q.CollaborationId = p.CollaborationId AND q.UserId = p.UserId);

    WITH Newest AS (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.Id, r.Guid ORDER BY r.EndedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'call')
    UPDATE c
    SET EndedAt = r.EndedAt, Outcome = r.Code
    FROM dbo.Collaborations AS c
    JOIN Newest AS r ON r.Id = c.CollaborationId AND r.Guid = c.CollaborationGuid
    WHERE r.Place = 1 AND c.EndedAt < r.EndedAt;

    WITH Newest AS (
      SELECT r.*, ROW_NUMBER() OVER (PARTITION BY r.Id, r.Guid ORDER BY r.EndedAt DESC, r.RowNo DESC) AS Place
      FROM @Row AS r
      WHERE r.Kind = 'call')
    INSERT dbo.Collaborations (CollaborationId, CollaborationGuid, Kind, CreatorId, CreatedAt, EndedAt, Outcome)
    SELECT r.Id, r.Guid, r.TypeName, r.SenderId, r.HappenedAt, r.EndedAt, r.Code
    FROM Newest AS r
    WHERE r.Place = 1
      AND NOT EXISTS (
        SELECT 1 FROM dbo.Collaborations AS c WHERE c.CollaborationId = r.Id AND c.CollaborationGuid = r.Guid);

    COMMIT TRANSACTION;
  END TRY
  BEGIN CATCH
    IF XACT_STATE() <> 0
      ROLLBACK TRANSACTION;
    THROW;
  END CATCH;

  SELECT @Written AS Written, @Total - @Written AS Known;
  RETURN 0;
END
GO
