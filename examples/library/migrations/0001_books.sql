CREATE TABLE books (
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  author TEXT NOT NULL,
  copies INTEGER NOT NULL CHECK (copies >= 0)
);
CREATE TABLE loans (
  id INTEGER PRIMARY KEY,
  book INTEGER NOT NULL REFERENCES books (id),
  reader TEXT NOT NULL,
  due TEXT NOT NULL,
  returned INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX one_loan_each ON loans (book, reader) WHERE NOT returned;
