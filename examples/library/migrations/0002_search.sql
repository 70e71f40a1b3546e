CREATE VIRTUAL TABLE search USING fts5 (title, author, content = 'books', content_rowid = 'id');
CREATE TRIGGER books_searched AFTER INSERT ON books BEGIN
  INSERT INTO search (rowid, title, author) VALUES (new.id, new.title, new.author);
END;
