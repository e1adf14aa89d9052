-- 004-rights.sql - the role of the server: these procedures, nothing else.
--
-- It has no rights on tables: the procedures have the same owner as the
-- tables, which is enough. A login for the server is made by hand, so that no
-- password stands in a file (etc/mssql/README):
--
--   CREATE LOGIN parley WITH PASSWORD = N'...';   -- in master
--   CREATE USER parley FOR LOGIN parley;          -- here
--   ALTER ROLE ParleyServer ADD MEMBER parley;
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
GO
IF DATABASE_PRINCIPAL_ID(N'ParleyServer') IS NULL
CREATE ROLE ParleyServer;
GO
GRANT EXECUTE ON OBJECT::dbo.COB_Authenticate_Get_User_List TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.COB_GetUserById TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.COB_Get_All_User TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.COB_Get_Collaboration_History TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.COB_Update_Status TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.COB_Update_User TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Message_Get_All_Messages TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Message_InsertMessage TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Parley_Delete_Device_Token TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Parley_Get_User_List TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Parley_Put_Device_Token TO ParleyServer;
GRANT EXECUTE ON OBJECT::dbo.Parley_Write_Batch TO ParleyServer;
GO
