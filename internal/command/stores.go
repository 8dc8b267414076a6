package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// storeHelp says how a command is told which store it's about.
const storeHelp = `A store is one of

  FOLDER                          a registry's root
  registry:NAME                   that of a registry in the file --config, with
                                  its paths; one that a site describes is called
                                  inline, the next ones inline-2 and so on
  s3://BUCKET[/PREFIX][?OPTIONS]  a bucket; options are region, endpoint,
                                  path_style=true and single_writer=true, and who
                                  asks is found where AWS's own tools look
  zot+s3://BUCKET[/PREFIX]…       the bucket of a zot, which is only read; PREFIX
                                  is what its repositories' names come after

What is only read is left as it is, may be mounted read-only, and may have a
registry running on it: then it's read as it is at that moment. To be written to, a
folder must be nobody else's.`

// storeFlags say where a command finds what a store is called.
type storeFlags struct {
	caddy Caddy

	config, adapter string
}

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "Caddyfile", "The file that declares what registry:NAME names")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of that file, if its name doesn't say")
}

// read opens a store for reading, which leaves it as it is, and tells out what is to
// be known of it. The caller closes it.
func (f storeFlags) read(ctx context.Context, out io.Writer, at string) (storage.Store, error) {
	s, err := f.open(ctx, at, false)
	if err != nil {
		return nil, err
	}
	for _, root := range s.folders {
		if err := remark(out, root); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", shown(at), err), s.Close())
		}
	}
	return s, nil
}

// remark says what is to be known of a root by whoever reads it.
func remark(out io.Writer, root string) error {
	by, err := filesystem.InUse(root)
	if err != nil {
		return err
	}
	switch {
	case by != "":
		_, err = fmt.Fprintf(out, "%s is running on %s: what is read is what it has at this moment\n", by, root)
	case filesystem.IsUnsynced(root):
		_, err = fmt.Fprintf(out, "%s was written with sync off, and not closed: what is damaged in it stays, and a registry that's started on it removes that\n", root)
	}
	return err
}

// opened is a store that a command has opened.
type opened struct {
	storage.Store

	folders []string      // that it's in
	of      Configuration // that it closes with; nil if there's none
}

// Unwrap is for storage.As.
func (o opened) Unwrap() any { return o.Store }

// Close implements storage.Store.
func (o opened) Close() error {
	if o.of != nil {
		return o.of.Close()
	}
	return o.Store.Close()
}

// write opens a store for writing, and makes its folder if need be. The caller
// closes it. Whether it may be written to shows when it is.
func (f storeFlags) write(ctx context.Context, at string) (storage.Store, error) {
	return f.open(ctx, at, true)
}

// sparingly makes a process that moves much through little memory collect its garbage
// soon, which is cheap there, until done is called.
func sparingly() (done func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	was := debug.SetGCPercent(25)
	return func() { debug.SetGCPercent(was) }
}

// shown is what a store is called where anybody may read it.
func shown(at string) string {
	scheme, _, isURL := strings.Cut(at, "://")
	if isURL && (strings.Contains(at, "@") || withoutUser(at) == "") { // keys have slashes, too
		return scheme + "://…"
	}
	return at
}

// explain says what to do if a store couldn't be written to since another process
// does that.
func explain(err error, at string) error {
	if !errors.Is(err, storage.ErrStandby) {
		return err
	}
	return fmt.Errorf("%w\nIf a registry is running on %s, stop it first; or write to a new place, and have the registry use that one then", err, shown(at))
}

func (f storeFlags) open(ctx context.Context, at string, write bool) (opened, error) {
	s, err := f.openNamed(ctx, at, write)
	if err != nil {
		return opened{}, fmt.Errorf("%s: %w", shown(at), err)
	}
	return s, nil
}

func (f storeFlags) openNamed(ctx context.Context, at string, write bool) (opened, error) {
	if name, ok := strings.CutPrefix(at, "registry:"); ok {
		return f.openRegistry(ctx, name, write)
	}
	if scheme, _, ok := strings.Cut(at, "://"); ok {
		s, err := f.openURL(ctx, scheme, at, write)
		return opened{Store: s}, err
	}
	root, err := filesystem.Canonical(at)
	if err != nil {
		return opened{}, err
	}
	var s *filesystem.Store
	if write {
		s, err = filesystem.Open(root, filesystem.Options{})
	} else {
		s, err = filesystem.OpenReadOnly(ctx, root, filesystem.Options{})
	}
	if err != nil {
		return opened{}, err
	}
	return opened{Store: s, folders: []string{root}}, nil
}

// openURL opens a store by the scheme of its URL.
func (f storeFlags) openURL(ctx context.Context, scheme, at string, write bool) (storage.Store, error) {
	open, known := f.caddy.Schemes[scheme]
	if !known {
		return nil, fmt.Errorf("no stores are called %s:// (there are %s)", scheme, strings.Join(slices.Sorted(maps.Keys(f.caddy.Schemes)), ", "))
	}
	if strings.Contains(at, "@") {
		return nil, errors.New("keys in a URL would be for all to see: leave them to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or to another part of AWS's usual chain")
	}
	u, err := url.Parse(at)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrong.Err // which hasn't got all of it
	}
	if err != nil {
		return nil, err
	}
	return open(ctx, u, write)
}

// openRegistry opens what the registry called name has, as its configuration says.
func (f storeFlags) openRegistry(ctx context.Context, name string, write bool) (opened, error) {
	config, err := f.load()
	if err != nil {
		return opened{}, err
	}
	s, folders, err := config.Open(ctx, name, write)
	if err != nil {
		return opened{}, errors.Join(err, config.Close())
	}
	return opened{s, folders, config}, nil
}

// load returns the configuration. The caller closes it.
func (f storeFlags) load() (Configuration, error) { return f.caddy.Load(f.config, f.adapter) }
