package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Sweeper = (*Store)(nil)

// Sweep implements storage.Sweeper. Data goes in two rounds: the first that finds
// it named by nothing condemns it, and one a grace later, which finds the same,
// removes it.
//
// What there is is listed before sessions are read, and these before records: so
// bytes that a commit carries from the one to the other are seen in one of them.
func (s *Store) Sweep(ctx context.Context, opts storage.SweepOptions) iter.Seq2[storage.Swept, error] {
	return func(yield func(storage.Swept, error) bool) {
		done, err := s.begin()
		if err != nil {
			yield(storage.Swept{}, err)
			return
		}
		defer done()
		if !opts.Dry {
			if err := s.writable(ctx); err != nil {
				yield(storage.Swept{}, err)
				return
			}
		}
		if opts.Wait == nil {
			opts.Wait = func(ctx context.Context, _ int) error { return ctx.Err() }
		}
		w := &sweep{
			store: s, before: opts.Before, dry: opts.Dry, pause: opts.Wait, yield: yield,
			data: make(map[string]int64), segments: make(map[string][]string), inUse: make(map[string]bool), named: make(map[string]bool),
		}
		for _, step := range []func(context.Context){
			w.readLinks, w.listData, w.listSegments, w.readCondemned, w.sweepSessions, w.sweepUploads, w.readRecords, w.ageCondemned, w.dedupe, w.sweepData, w.sweepPulls,
		} {
			if step(ctx); w.stopped || ctx.Err() != nil {
				return
			}
		}
	}
}

// sweep is one round.
type sweep struct {
	store  *Store
	before time.Time
	dry    bool
	pause  func(ctx context.Context, n int) error // before I/O
	yield  func(storage.Swept, error) bool
	linked time.Duration // how long somebody may have been sent to what is condemned

	data      map[string]int64     // sizes of old data, less what is found to be named
	segments  map[string][]string  // old ones by their record's key
	inUse     map[string]bool      // data of sessions that go on
	held      holdings             // what records name
	condemned map[string]time.Time // since when nothing has named data that may not be named
	named     map[string]bool      // what is condemned, and named nevertheless
	unread    bool                 // there's something that may name data and can't be read
	stopped   bool                 // nobody wants to hear more, or there's nothing to go on with
}

// fail reports what couldn't be looked at or removed. Once nothing may be written
// any more the round ends.
func (w *sweep) fail(err error) {
	if !w.stopped {
		w.stopped = !w.yield(storage.Swept{}, err) || errors.Is(err, storage.ErrStandby)
	}
}

// wait waits for n units of I/O; an error ends the round.
func (w *sweep) wait(ctx context.Context, n int) error {
	err := w.pause(ctx, n)
	w.stopped = w.stopped || err != nil
	return err
}

// found reports a thing, and whether it's to be removed.
func (w *sweep) found(kind storage.SweptKind, name string, size int64) bool {
	if w.stopped {
		return false
	}
	w.stopped = !w.yield(storage.Swept{Kind: kind, Name: name, Size: size}, nil)
	return !w.stopped && !w.dry
}

// each lists what lies below a prefix, and reports whether that came to its end.
func (w *sweep) each(ctx context.Context, prefix string, do func(listed)) bool {
	for after, more := "", true; more && !w.stopped; {
		var page []listed
		var err error
		if page, more, err = w.store.bucket.list(ctx, prefix, after); err != nil {
			w.fail(fmt.Errorf("list %s: %w", prefix, err))
			return false
		}
		for _, o := range page {
			after = o.Key
			do(o)
		}
	}
	return !w.stopped
}

func (w *sweep) old(o listed) bool { return o.Modified.Before(w.before) }

// listData ends the round if it fails: what isn't listed would be taken for gone.
func (w *sweep) listData(ctx context.Context) {
	complete := w.each(ctx, w.store.keys.data(""), func(o listed) {
		if w.old(o) {
			w.data[path.Base(o.Key)] = o.Size
		}
	})
	w.stopped = !complete
}

func (w *sweep) listSegments(ctx context.Context) {
	w.each(ctx, w.store.keys.segments(), func(o listed) {
		if w.old(o) {
			record := w.store.keys.records() + path.Base(path.Dir(o.Key))
			w.segments[record] = append(w.segments[record], path.Base(o.Key))
		}
	})
}

// readCondemned also tidies up after a round that was cut off: of what is
// condemned for long, what isn't there any more.
func (w *sweep) readCondemned(ctx context.Context) {
	w.condemned = make(map[string]time.Time)
	w.each(ctx, w.store.keys.condemned(""), func(o listed) {
		list, _, err := w.store.condemned(ctx, path.Base(o.Key))
		if err != nil {
			w.unread = true
			w.fail(err)
			return
		}
		var gone []string
		for id, since := range list.IDs {
			w.condemned[id] = since
			if _, there := w.data[id]; !there && !since.IsZero() && since.Before(w.before) {
				gone = append(gone, id)
			}
		}
		if len(gone) > 0 && !w.dry {
			w.pardon(ctx, gone)
		}
	})
}

// pardon takes IDs off the lists.
func (w *sweep) pardon(ctx context.Context, ids []string) {
	w.edit(ctx, ids, func(list map[string]time.Time, id string) { delete(list, id) })
}

// edit changes what the lists say of each of the IDs.
func (w *sweep) edit(ctx context.Context, ids []string, do func(list map[string]time.Time, id string)) {
	byList := make(map[string][]string)
	for _, id := range ids {
		byList[id[:1]] = append(byList[id[:1]], id)
	}
	for first, ids := range byList {
		err := w.store.condemn(ctx, first, func(list map[string]time.Time) {
			for _, id := range ids {
				do(list, id)
			}
		})
		if err != nil {
			w.fail(err)
		}
	}
}

// readRecords reads every record afresh, and takes from data what they name.
func (w *sweep) readRecords(ctx context.Context) {
	if len(w.data) == 0 && len(w.segments) == 0 && len(w.condemned) == 0 {
		return
	}
	var keys []string
	if !w.each(ctx, w.store.keys.records(), func(o listed) { keys = append(keys, o.Key) }) {
		w.unread = true
		return
	}
	var mu sync.Mutex
	var errs []error
	var reading sync.WaitGroup
	turns := make(chan struct{}, recordsAtOnce)
	for _, key := range keys {
		if w.wait(ctx, 0) != nil {
			w.unread = true
			break
		}
		turns <- struct{}{}
		reading.Go(func() {
			defer func() { <-turns }()
			name, s, err := w.readRecord(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if s != nil {
				w.note(name, s)
			}
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	reading.Wait()
	for _, err := range errs {
		w.unread = true
		w.fail(err)
	}
}

// ageCondemned has the grace of what is condemned begin when nothing names it.
func (w *sweep) ageCondemned(ctx context.Context) {
	if w.unread || w.dry {
		return
	}
	var named, unnamed []string
	for id, since := range w.condemned {
		switch {
		case w.named[id] && !since.IsZero():
			named = append(named, id)
		case !w.named[id] && since.IsZero():
			unnamed = append(unnamed, id)
		}
	}
	now := time.Now().UTC()
	w.edit(ctx, named, func(list map[string]time.Time, id string) { list[id] = time.Time{} })
	w.edit(ctx, unnamed, func(list map[string]time.Time, id string) { list[id] = now })
	for _, id := range unnamed {
		w.condemned[id] = now
	}
}

// recordsAtOnce is how many records are read at once.
const recordsAtOnce = 8

// note notes the data that a record names.
func (w *sweep) note(name oci.Name, s *state) {
	for _, b := range s.blobs.All() {
		if !b.inline() {
			delete(w.data, b.ID)
			delete(w.data, b.Also)
			if _, ok := w.condemned[b.ID]; ok {
				w.named[b.ID] = true
			}
		}
	}
	if !w.dry {
		w.held.add(name, s)
	}
}

// readRecord returns what a record says. Old segments that it doesn't name any
// more go, and so does what a mount that has died has left in it.
func (w *sweep) readRecord(ctx context.Context, key string) (name oci.Name, s *state, err error) {
	name, err = w.store.keys.name(key)
	if err != nil {
		return name, nil, fmt.Errorf("%s: %w", key, err)
	}
	r := w.store.cache.acquire(w.store, name)
	defer w.store.cache.release(r)
	s, err = r.refresh(ctx)
	if err != nil || w.dry {
		return name, s, err
	}
	for _, b := range s.blobs.All() {
		if b.Unsure && b.marked.Before(w.before) {
			err = r.change(ctx, w.dropForsaken)
			break
		}
	}
	if err == nil {
		err = w.sweepSegments(ctx, r, s, w.segments[key])
	}
	return name, s, err
}

func (w *sweep) dropForsaken(s *state) (changes []change, by string, err error) {
	for key, b := range s.blobs.All() {
		if b.Unsure && b.marked.Before(w.before) {
			changes = append(changes, change{Drop: digestOf(key)})
		}
	}
	return changes, "", nil
}

// sweepSegments removes the segments that the record doesn't name. Somebody may
// be about to write a record that does, and stand still since long ago. So the
// record is changed first: then that write can't come through any more.
func (w *sweep) sweepSegments(ctx context.Context, r *repo, s *state, old []string) error {
	var keys []string
	for _, id := range old {
		if !s.hasSegment(id) {
			keys = append(keys, w.store.keys.segment(r.name, id))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	err := r.change(ctx, func(s *state) ([]change, string, error) {
		return []change{{retire: s.head.Retired}}, "", nil
	})
	if err == nil {
		err = w.remove(ctx, keys)
	}
	return err
}

func (s *state) hasSegment(id string) bool {
	for _, seg := range s.head.Segments {
		if seg.ID == id {
			return true
		}
	}
	return false
}

// removeAtOnce is how many objects one call removes.
const removeAtOnce = 1000

func (w *sweep) remove(ctx context.Context, keys []string) error {
	for some := range slices.Chunk(keys, removeAtOnce) {
		if err := w.store.writable(ctx); err != nil {
			return err
		}
		if err := w.store.bucket.remove(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// sweepData condemns what nothing names, and removes what was condemned a grace ago.
func (w *sweep) sweepData(ctx context.Context) {
	if w.unread {
		return // it may name anything
	}
	var doomed, due []string
	for id := range w.data {
		since, known := w.condemned[id]
		switch {
		case !known && !w.dry:
			doomed = append(doomed, id)
		case !known || !since.IsZero() && since.Before(w.before.Add(-w.linked)): // zero: its grace hasn't begun
			due = append(due, id)
		}
	}
	w.condemn(ctx, doomed)
	if w.removeData(ctx, due) && !w.dry {
		w.pardon(ctx, due)
	}
}

func (w *sweep) condemn(ctx context.Context, ids []string) {
	now := time.Now().UTC()
	w.edit(ctx, ids, func(list map[string]time.Time, id string) {
		if _, ok := list[id]; !ok {
			list[id] = now
		}
	})
}

// removeData removes what it has reported, and no more, and tells whether that was all.
func (w *sweep) removeData(ctx context.Context, ids []string) bool {
	for some := range slices.Chunk(ids, removeAtOnce) {
		var keys []string
		for _, id := range some {
			key := w.store.keys.data(id)
			if w.found(storage.SweptBlob, strings.TrimPrefix(key, w.store.keys.prefix), w.data[id]) {
				keys = append(keys, key)
			}
		}
		if err := w.remove(ctx, keys); err != nil {
			w.fail(err)
			return false
		}
		if w.stopped {
			return false
		}
	}
	return true
}
