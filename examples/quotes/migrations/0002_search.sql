-- Migration number: 0002
CREATE VIRTUAL TABLE search USING fts5 (author, text, content = 'quotes', content_rowid = 'id');
INSERT INTO search (search) VALUES ('rebuild');

CREATE TRIGGER quote_added AFTER INSERT ON quotes BEGIN
  INSERT INTO search (rowid, author, text) VALUES (new.id, new.author, new.text);
END;
