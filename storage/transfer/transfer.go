// Package transfer copies repositories from one store to another, as they are: tags
// and manifests without one, referrers, blobs that nothing names, each by the
// digest it has. What is there already isn't copied again, so a copy that was
// stopped goes on where it was.
//
// When content was pulled last, and since when nothing has needed it, aren't
// copied: to the target all of it is new.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Options say what is copied, and how.
type Options struct {
	// Only says which repositories are copied. Default: all.
	Only func(oci.Name) bool

	// Overwrite moves tags that name something else in the target. Default: they
	// stay, and are problems.
	Overwrite bool

	// Parallel is how many blobs, and how many repositories, are copied at once. Default: 8.
	Parallel int

	// By is who changes the target, for its history. Default: empty, anonymous.
	By string

	// Progress counts while it goes on. Default: nobody does.
	Progress *Progress

	// Problem is told of each thing that wasn't copied, one call at a time. Default: nobody is.
	Problem func(Problem)
}

// Progress is how far a copy is. Its fields may be read at any time.
type Progress struct {
	Repositories atomic.Int64 // that are to be copied, once they're known
	Finished     atomic.Int64 // of them
	Copied       atomic.Int64 // blobs and manifests
	Skipped      atomic.Int64 // blobs and manifests that were there, or could be shared
	Bytes        atomic.Int64 // of the content that was read
}

// Problem is something that wasn't copied.
type Problem struct {
	Repository oci.Name
	What       string // a digest or tag; empty for the repository as a whole
	Err        error
}

func (p Problem) String() string {
	switch _, err := oci.ParseDigest(p.What); {
	case p.What == "":
		return fmt.Sprintf("%s: %v", p.Repository, p.Err)
	case err == nil:
		return fmt.Sprintf("%s@%s: %v", p.Repository, p.What, p.Err)
	}
	return fmt.Sprintf("%s:%s: %v", p.Repository, p.What, p.Err)
}

// Copy copies repositories. What is wrong with one thing keeps no other from being
// copied, and is told to opts.Problem. An error is why it ended before all was tried.
func Copy(ctx context.Context, to, from storage.Store, opts Options) error {
	c := newCopier(to, from, opts)
	names, err := c.names(ctx)
	if err != nil {
		return fmt.Errorf("list repositories: %w", err)
	}
	c.opts.Progress.Repositories.Store(int64(len(names)))
	group, all := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Parallel)
	for _, name := range names {
		group.Go(func() error { return c.repository(all, name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return TellBroken(ctx, from, c.opts.Only, c.opts.Problem)
}

// TellBroken tells of the repositories that were read, of those meant, whose names
// can't be: what was read of them is what was good last.
func TellBroken(ctx context.Context, from storage.Store, meant func(oci.Name) bool, tell func(Problem)) error {
	restorer, ok := storage.As[storage.Restorer](from)
	if !ok {
		return nil
	}
	broken, err := restorer.Broken(ctx)
	if err != nil {
		return err
	}
	for _, b := range broken {
		if b.LastGood && meant(b.Name) { // of the others it's told already
			tell(Problem{b.Name, "", fmt.Errorf("these are its last good names: %w", b.Cause)})
		}
	}
	return nil
}

// copier is a copy that's under way.
type copier struct {
	to, from storage.Store
	opts     Options
	blobs    *semaphore.Weighted // how many are copied at once
	claims   claims

	telling sync.Mutex // held while a problem is told
}

func newCopier(to, from storage.Store, opts Options) *copier {
	if opts.Only == nil {
		opts.Only = func(oci.Name) bool { return true }
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 8
	}
	if opts.Progress == nil {
		opts.Progress = new(Progress)
	}
	if opts.Problem == nil {
		opts.Problem = func(Problem) {}
	}
	return &copier{to: to, from: from, opts: opts, blobs: semaphore.NewWeighted(int64(opts.Parallel))}
}

func (c *copier) names(ctx context.Context) ([]oci.Name, error) {
	var names []oci.Name
	for name, err := range c.from.Repositories(ctx, oci.Name{}) {
		if err != nil {
			return nil, err
		}
		if c.opts.Only(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// repository copies one. Its error is one that ends everything.
func (c *copier) repository(ctx context.Context, name oci.Name) error {
	r := &repository{copier: c, name: name, from: c.from.Repository(name), to: c.to.Repository(name)}
	if err := r.copy(ctx); err != nil {
		return r.problem(ctx, "", err)
	}
	c.opts.Progress.Finished.Add(1)
	return nil
}

// problem tells of something that wasn't copied. It returns an error if there's
// no use in trying anything else.
func (r *repository) problem(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*end](err); ok {
		return err
	}
	p := Problem{r.name, what, err}
	for _, all := range []error{storage.ErrFull, storage.ErrStandby, storage.ErrClosed, oci.Unsupported} {
		if errors.Is(err, all) {
			return &end{p}
		}
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.opts.Problem(p)
	return nil
}

// end is a problem that everything else would have too.
type end struct{ Problem }

func (e *end) Error() string { return e.String() }
func (e *end) Unwrap() error { return e.Err }
