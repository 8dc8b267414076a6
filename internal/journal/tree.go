package journal

import (
	"hash/maphash"
	"path"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// tree is what all trees under one FS share.
//
// Locks are taken in this order: wave, gate, a name's, mu. No I/O is done under mu.
type tree struct {
	under vfs.FS
	opts  Options

	wave sync.Mutex // one frame is written at a time; guards logs and broken
	logs [2]*log
	// broken: the journal couldn't be written, and what it lacks isn't synced yet.
	broken bool

	gate  sync.RWMutex   // held by what must not meet the journal's end
	names [64]sync.Mutex // what happens to a name is recorded in the order in which it happened

	mu      sync.Mutex // guards the rest
	on      bool
	ending  bool     // no timer starts any more
	last    uint64   // the newest epoch's number
	buf     []byte   // the frame to be, with room for its head
	spare   []byte   // a buf that was written, for the frame after the next; nil while one is
	seq     uint64   // of the last operation recorded
	durable uint64   // of the last one that a power cut can't undo
	now     *epoch   // whose log is written
	past    *epoch   // whose files are being synced; nil if there's none
	root    vfs.File // the next epoch's; guarded by wave
	next    touched  // by what was recorded and isn't in a log yet

	files   map[string]*entry            // by name, files whose bytes the journal has
	kept    int                          // how many dirty may have, if that's more than maxRemembered
	dirty   map[string]int64             // by name, from where on a file has changed since it was synced
	based   map[string]bool              // by name, files of which all that isn't dirty was synced in this process
	pending map[string]map[string]uint64 // by directory, names of files that the journal hasn't
	made    map[string]bool              // directories whose names only the journal has
	synced  map[string]bool              // directories that were synced themselves
	changes map[string]uint64            // by directory, the last operation on a name in it
	doubted map[string]bool              // directories in doubt; false if that was in the epoch before
	making  map[string]int               // by directory, how many make a file in it because it's in doubt
	stopped sync.Cond                    // an entry isn't moving, or being synced, any more
	timer   *time.Timer                  // for the epoch's end
	rings   uint64                       // how many timers there were
	work    sync.WaitGroup               // what the timer and full logs began
}

// epoch is the time in which one of the logs is written.
type epoch struct {
	touched

	number uint64
	root   vfs.File // a handle that hears of what can't be written in this epoch; nil if there's none

	finishing sync.Mutex      // one at a time syncs its files
	writing   int             // how many write what its log has
	late      map[*entry]bool // written to after that was recorded, and maybe after a sync
	closing   bool            // its files are synced, and who comes now doesn't count on its log
}

// touched are the files that something happened to, and the directories in which
// something happened to names.
type touched struct {
	files map[*entry]bool
	dirs  map[string]bool
	made  map[string]bool // directories that were made
}

func newTouched() touched {
	return touched{make(map[*entry]bool), make(map[string]bool), make(map[string]bool)}
}

// entry is a file whose bytes the journal has, all or those that have changed.
type entry struct {
	name      string // empty once it's gone
	epoch     *epoch // of its newest bytes that are in a log
	unwritten int    // how many touched have it that aren't in a log yet
	whole     bool   // no part of it is only on the disk
	moving    int    // how many are changing its name, which may be done already
	syncing   int    // how many sync the file now
	suspect   bool   // a sync of it failed: the next one would succeed without writing anything
}

// complete reports whether the journal has the whole file.
func (e *entry) complete() bool { return e != nil && e.whole && !e.isClosing() }

func (e *entry) isClosing() bool { return e.unwritten == 0 && e.epoch.closing }

func (t *tree) reset() {
	t.stopped.L = &t.mu
	t.now.end()
	t.past.end()
	t.on, t.now, t.past = false, nil, nil
	t.buf, t.next = nil, newTouched()
	t.files = make(map[string]*entry)
	t.pending = make(map[string]map[string]uint64)
	t.made = make(map[string]bool)
	t.synced = make(map[string]bool)
	t.changes = make(map[string]uint64)
	t.based = make(map[string]bool)
	t.doubted = make(map[string]bool)
}

// end lets go of what the epoch holds.
func (e *epoch) end() {
	if e != nil && e.root != nil {
		_ = e.root.Close() // nothing is written to it
		e.root = nil
	}
}

// newEpoch opens the root, to hear of what can't be written, for the epoch after:
// what is recorded in this one may have been written before.
func (t *tree) newEpoch(number uint64) *epoch {
	e := &epoch{touched: newTouched(), number: number, root: t.root, late: make(map[*entry]bool)}
	t.root = t.openRoot()
	return e
}

// openRoot returns nil if that fails: files are synced one by one then.
func (t *tree) openRoot() vfs.File {
	root, err := t.under.Open(".")
	if err != nil {
		return nil
	}
	return root
}

var seed = maphash.MakeSeed()

// lockNames locks one or two names; the second may be empty.
func (t *tree) lockNames(a, b string) (unlock func()) {
	n := uint64(len(t.names))
	i := maphash.String(seed, a) % n
	j := i
	if b != "" {
		j = maphash.String(seed, b) % n
	}
	i, j = min(i, j), max(i, j)
	t.names[i].Lock()
	if i != j {
		t.names[j].Lock()
	}
	return func() {
		if i != j {
			t.names[j].Unlock()
		}
		t.names[i].Unlock()
	}
}

// change does something to names and records it.
func (t *tree) change(a, b string, do func() error, record func(*tree)) error {
	t.gate.RLock()
	defer t.gate.RUnlock()
	unlock := t.lockNames(a, b)
	defer unlock()
	e := t.beginMove(a)
	err := do()
	t.mu.Lock()
	defer t.mu.Unlock()
	if e != nil {
		e.moving--
		t.stopped.Broadcast()
	}
	if err == nil {
		record(t)
	}
	return err
}

// beginMove says of the file called name that it may not be there any more.
func (t *tree) beginMove(name string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.files[name]
	if e != nil {
		e.moving++
	}
	return e
}

// maxBuffer is how much is recorded, in bytes, until it's written down although
// nobody waits.
const maxBuffer = 1 << 20

// add records an operation. mu is held.
func (t *tree) add(o op) {
	if len(t.buf) == 0 {
		t.buf = append(t.buf, make([]byte, frameHead)...)
	}
	was := len(t.buf)
	t.buf = o.append(t.buf)
	t.seq++
	if o.kind != opDone {
		t.startTimer(t.opts.After)
	}
	if seq := t.seq; was <= maxBuffer && len(t.buf) > maxBuffer {
		t.work.Go(func() { _ = t.wait(seq) }) // who needs it hears of what's wrong
	}
}

// touchNames notes that the last operation was on names in these directories.
func (t *tree) touchNames(names ...string) {
	t.touchDirs(names...)
	for _, name := range names {
		t.changes[path.Dir(name)] = t.seq
	}
}

// touchDirs notes that the directories of these names have to be synced with the
// epoch.
func (t *tree) touchDirs(names ...string) {
	for _, name := range names {
		t.next.dirs[path.Dir(name)] = true
	}
}

// barrier waits until all that is recorded is durable.
func (t *tree) barrier() error {
	t.gate.RLock()
	seq := t.recorded()
	t.gate.RUnlock()
	return t.wait(seq)
}

func (t *tree) recorded() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq
}
