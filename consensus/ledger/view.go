package ledger

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The tables of memdb: the rows of all tables of the ledger by table and key,
// which is the order of a snapshot; and what is made of them.
const (
	rowTable     = "row"
	metaTable    = "meta"
	requestTable = "request"
	countTable   = "count"
)

// A record is a row in its place. It is never changed.
type record struct {
	table uint8
	key   string
	row   row
}

// A row is what is stored of it.
type row struct {
	Version uint64 `cbor:"1,keyasint"` // index of the command that changed it last
	Created int64  `cbor:"2,keyasint"` // Unix ms
	Changed int64  `cbor:"3,keyasint"`
	By      string `cbor:"4,keyasint,omitempty"`
	Body    []byte `cbor:"5,keyasint"`
}

// An indexer makes the key of one memdb table out of its objects.
type indexer struct{ key func(any) string }

func (i indexer) FromObject(o any) (bool, []byte, error) { return true, []byte(i.key(o)), nil }

func (i indexer) FromArgs(args ...any) ([]byte, error)       { return []byte(args[0].(string)), nil }
func (i indexer) PrefixFromArgs(args ...any) ([]byte, error) { return []byte(args[0].(string)), nil }

func place(table uint8, key string) string { return string(rune(table)) + key }

func newDB() *memdb.MemDB {
	tables := map[string]*memdb.TableSchema{}
	for name, key := range map[string]func(any) string{
		rowTable:     func(o any) string { r := o.(*record); return place(r.table, r.key) },
		metaTable:    func(any) string { return "meta" },
		requestTable: func(o any) string { return o.(*requested).id },
		countTable:   func(o any) string { return string(rune(o.(*counter).table)) },
	} {
		tables[name] = &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: indexer{key}},
		}}
	}
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: tables})
	must(err)
	return db
}

// A View is the state at one moment. It never changes.
type View struct{ txn *memdb.Txn }

func (v View) meta() *meta {
	found, err := v.txn.First(metaTable, "id", "meta")
	must(err)
	if found == nil {
		return &meta{Level: 1}
	}
	return found.(*meta)
}

// Index is that of the newest command.
func (v View) Index() uint64 { return v.meta().Index }

// At is the time of the newest command, by the clocks of leaders.
func (v View) At() time.Time { return time.UnixMilli(v.meta().At) }

// Level is the feature level that every node of the cluster has.
func (v View) Level() uint64 { return v.meta().Level }

// Chain is the authority chain; nil before there is one.
func (v View) Chain() *authority.Chain { return v.meta().chain }

// AuditRoot is the root of the chain of all commands.
func (v View) AuditRoot() [32]byte { return v.meta().Audit }

// Count returns the number of rows of a table.
func (v View) Count(table uint8) int { return v.counter(table).n }

func (v View) counter(table uint8) counter {
	found, err := v.txn.First(countTable, "id", string(rune(table)))
	must(err)
	if found == nil {
		return counter{}
	}
	return *found.(*counter)
}

func (v View) row(table uint8, key string) *record {
	found, err := v.txn.First(rowTable, "id", place(table, key))
	must(err)
	if found == nil {
		return nil
	}
	return found.(*record)
}

func (v View) rows(prefix string) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		it, err := v.txn.Get(rowTable, "id_prefix", prefix)
		must(err)
		for o := it.Next(); o != nil; o = it.Next() {
			if !yield(o.(*record)) {
				return
			}
		}
	}
}

// A Row is a row of a table, of the type T.
type Row[T any] struct {
	Key     string
	Version uint64 // to be expected by who changes it
	Created time.Time
	Changed time.Time
	By      string
	Body    T
	of      *record
}

// Same tells whether both are the row as it was written once: two histories may have
// different rows of one version.
func (r Row[T]) Same(o Row[T]) bool { return r.of == o.of }

// A Table reads the rows of one table.
type Table[T any] struct {
	number uint8
	name   string
}

// Get returns a copy of a row.
func (t Table[T]) Get(v View, key string) (Row[T], bool) {
	r := v.row(t.number, key)
	if r == nil {
		return Row[T]{}, false
	}
	return t.decode(r), true
}

// All returns copies of all rows, in the order of their keys.
func (t Table[T]) All(v View) iter.Seq2[string, Row[T]] {
	return func(yield func(string, Row[T]) bool) {
		for r := range v.rows(place(t.number, "")) {
			if !yield(r.key, t.decode(r)) {
				return
			}
		}
	}
}

// Put returns the change that writes a row: version is that of the row that
// its author saw, 0 if there must be none.
func (t Table[T]) Put(key string, version uint64, body T) Op {
	return Op{Table: t.number, Key: key, Expect: version, Body: canon.Encode(body)}
}

// Delete returns the change that removes a row.
func (t Table[T]) Delete(key string, version uint64) Op {
	return Op{Table: t.number, Key: key, Expect: version, Delete: true}
}

func (t Table[T]) String() string { return t.name }

func (t Table[T]) decode(r *record) Row[T] {
	var body T
	if err := t.read(r.row.Body, &body); err != nil {
		panic(fmt.Sprintf("ledger: row %q of table %s: %v", r.key, t.name, err)) // it was decoded before it was stored
	}
	return Row[T]{r.key, r.row.Version, time.UnixMilli(r.row.Created), time.UnixMilli(r.row.Changed), r.row.By, body, r}
}

// read reads the body of a row as it is stored. What records of the audit say a command
// was about is cut at some length, also in a letter; that cannot be changed any more,
// since all nodes have to write the same.
func (t Table[T]) read(b []byte, body *T) error {
	if t.number == Audits.number {
		return canon.DecodeClipped(b, body)
	}
	return canon.Decode(b, body)
}

// Number is what the table has in commands and snapshots.
func (t Table[T]) Number() uint8 { return t.number }

// Wait returns the first state in which one of the tables is not what it is in
// after, or when ctx is done. It is how changes are watched: whoever begins
// gives the View that they have read. It may wake for nothing when a snapshot
// was installed.
func (l *Ledger) Wait(ctx context.Context, after View, tables ...interface{ Number() uint8 }) (View, error) {
	for {
		ws := memdb.NewWatchSet()
		e := l.now.Load()
		ws.Add(e.gone)
		v := View{e.db.Txn(false)}
		for _, t := range tables {
			n := t.Number()
			if v.counter(n) != after.counter(n) {
				return v, nil
			}
			it, err := v.txn.Get(rowTable, "id_prefix", place(n, ""))
			must(err)
			ws.Add(it.WatchCh())
		}
		if err := ws.WatchCtx(ctx); err != nil {
			return v, ctx.Err()
		}
	}
}
