package htpasswd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

const (
	// lookTime is how long it takes from one look at the file to the next.
	lookTime = 500 * time.Millisecond

	// maxUnsettled is how many looks a file may differ from look to look until it's
	// read all the same. A file that somebody writes to all the time must count, too.
	maxUnsettled = 4

	// goneTime is how long a file may be away, or empty, until that counts.
	goneTime = 3 * time.Second

	// maxSize is what a file may have, in bytes: some 200,000 users.
	maxSize = 16 << 20
)

// watch is what is known of the file from earlier looks.
type watch struct {
	read      fs.FileInfo // the file that was read last; nil is none
	verdict   error       // what was wrong with it
	seen      fs.FileInfo // the file at the look before
	unsettled int         // looks since it began to change
	gone      time.Time   // since when there's nobody in it; zero if there is
	said      string      // what the log was told last
}

// run looks at the file until ctx ends.
func (f *File) run(ctx context.Context) {
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.look()
		}
	}
}

func (f *File) look() {
	now, err := os.Stat(f.path)
	switch w := &f.watch; {
	case errors.Is(err, fs.ErrNotExist):
		w.read, w.seen = nil, nil
		f.lose(errors.New("it is gone"))
	case err != nil:
		f.complain(err)
	case same(now, w.read):
		f.judge(nil)
	case !same(now, w.seen) && w.unsettled < maxUnsettled:
		w.seen = now
		w.unsettled++
	default:
		var all *users
		all, w.read, w.verdict = read(f.path)
		f.judge(all)
	}
}

// judge does what follows from the content that was read last. all is nil if it was
// judged before.
func (f *File) judge(all *users) {
	f.watch.unsettled = 0
	err := f.watch.verdict
	if errors.Is(err, errNobody) {
		f.lose(err)
		return
	}
	f.watch.gone = time.Time{}
	if err != nil {
		f.complain(err)
		return
	}
	f.accept(all)
}

// accept makes all those that count, unless it's nil.
func (f *File) accept(all *users) {
	var changed, removed int
	if all != nil {
		changed, removed = all.succeed(f.users.Load())
		f.users.Store(all)
	}
	if changed > 0 || removed > 0 || f.watch.said != "" {
		f.log.Info("htpasswd: the file as it is now counts",
			slog.Int("users", len(f.users.Load().list)), slog.Int("changed", changed), slog.Int("removed", removed))
	}
	f.watch.said = ""
	f.trouble.Store(nil)
}

// lose is a look that finds nobody. That counts if it stays so.
func (f *File) lose(why error) {
	if f.watch.gone.IsZero() {
		f.watch.gone = time.Now()
	}
	if time.Since(f.watch.gone) < goneTime {
		f.complain(fmt.Errorf("%w: if it stays so for %s, nobody can sign in", why, goneTime))
		return
	}
	if old := f.users.Load(); len(old.list) > 0 {
		f.users.Store(nobody(old))
	}
	f.complain(fmt.Errorf("%w: nobody can sign in", why))
}

// complain says once what's wrong with the file.
func (f *File) complain(err error) {
	f.trouble.Store(&err)
	if f.watch.said == err.Error() {
		return
	}
	f.watch.said = err.Error()
	f.log.Error("htpasswd: the file as it is now doesn't count", slog.Any("error", err))
}

// same reports whether nothing has happened to a file, as far as that shows.
func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads a file. It returns as what it found it before, so that the next look shows
// if it was another one by then; nil if it couldn't be read, and has to be once more.
// The error is errNobody if there are no users in it.
func read(path string) (*users, fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular(): // opening a pipe would wait
		return nil, info, errors.New("it isn't a file")
	case info.Size() > maxSize:
		return nil, info, errTooLarge
	}
	content, err := readAll(path)
	if err != nil {
		return nil, nil, err
	}
	all, err := parse(content)
	return all, info, err
}

var errTooLarge = fmt.Errorf("it has more than %d MiB", maxSize>>20)

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if len(content) > maxSize { // it has grown
		return nil, errTooLarge
	}
	return content, err
}
