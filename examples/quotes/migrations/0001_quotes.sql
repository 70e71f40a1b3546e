-- Migration number: 0001
CREATE TABLE quotes (
  id INTEGER PRIMARY KEY,
  author TEXT NOT NULL,
  text TEXT NOT NULL UNIQUE
);

INSERT INTO quotes (author, text) VALUES
  ('Grace Hopper', 'The most dangerous phrase is: we have always done it this way.'),
  ('Ludwig Mies van der Rohe', 'Less is more.');
