// Package htpasswd knows users by a file of names and hashes of passwords, as Apache's
// htpasswd and others make it:
//
//	# a comment
//	alice:$2y$10$…            bcrypt
//	bob:$6$rounds=10000$…     SHA-crypt, $5$ or $6$
//	carol:$argon2id$v=19$…    argon2id
//
// A line is a name, a colon and a hash; what follows a second colon is a comment. A
// file counts as a whole or not at all: one line that can't be read, a name that comes
// twice, or no user at all, and Open fails.
//
// The file is looked at twice a second, and what it says holds within 5 s, whether it
// was written in place, renamed or is behind a link that now leads elsewhere. A change
// counts once the file has been the same for two looks, so that one that's being
// written isn't read half. A content that can't be read as a whole changes nothing: the
// old one counts, the log says why, and Err. It doesn't say that a user is gone, even
// if that user's line is. A file that's gone, or has no user left, says that nobody is
// known any more: it counts after 3 s, which is more than it takes to replace one.
package htpasswd

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// Options configure a File. All have defaults.
type Options struct {
	// Provider is what an Identity says about where it's from. Default: "htpasswd".
	Provider string

	// Log gets what's wrong with the file, and when its users have changed. Names,
	// hashes and passwords are never in it. Default: discarded.
	Log *slog.Logger
}

// File is the Source and the Directory of a file. It is safe for concurrent use.
type File struct {
	path     string
	provider string
	log      *slog.Logger
	users    atomic.Pointer[users] // those that count
	trouble  atomic.Pointer[error] // what Err returns

	watch watch // only the goroutine that watches looks at it
	stop  context.CancelFunc
	done  sync.WaitGroup
}

var (
	_ authn.Source    = (*File)(nil)
	_ authn.Directory = (*File)(nil)
	_ authn.Versioned = (*File)(nil)
)

// Open reads a file and watches it until Close. The error names the lines that can't be
// read by their numbers.
func Open(path string, opts Options) (*File, error) {
	if opts.Provider == "" {
		opts.Provider = "htpasswd"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	f := &File{path: path, provider: opts.Provider, log: opts.Log.With(slog.String("file", path))}
	all, _, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("htpasswd %s: %w", path, err)
	}
	all.succeed(nil)
	f.users.Store(all)
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.done.Go(func() { f.run(ctx) })
	return f, nil
}

// Check returns why Open would refuse a file as it is now, or nil. A File that was opened
// before knows that later, and goes on with what it had.
func Check(path string) error {
	if _, _, err := read(path); err != nil {
		return fmt.Errorf("htpasswd %s: %w", path, err)
	}
	return nil
}

// Close ends the watching. The File knows its users on.
func (f *File) Close() error {
	f.stop()
	f.done.Wait()
	return nil
}

// Err returns why the file as it is now isn't what counts, or nil if it is.
func (f *File) Err() error {
	if err := f.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// maxPassword is the longest password that is hashed, in bytes. SHA-crypt takes a time
// that grows with its length.
const maxPassword = 1024

// Authenticate implements authn.Source. A user that doesn't exist costs what another
// one does: the password is hashed as it would be for one of those in the file, always
// the same one for the same name.
func (f *File) Authenticate(_ context.Context, name, password string) (authz.Identity, error) {
	if password == "" || len(password) > maxPassword || strings.Contains(password, "\x00") { // bcrypt takes "a\x00a" for "a"
		return authz.Identity{}, authn.ErrRefused
	}
	all := f.users.Load()
	u, known := all.byName[name]
	if !known {
		u = all.standIn(name)
	}
	if u == nil || !u.hash.matches(password) || !known {
		return authz.Identity{}, authn.ErrRefused
	}
	return f.identity(name), nil
}

// Lookup implements authn.Directory.
func (f *File) Lookup(_ context.Context, name string) (authz.Identity, error) {
	if _, known := f.users.Load().byName[name]; !known {
		return authz.Identity{}, authn.ErrRefused
	}
	return f.identity(name), nil
}

// Generation returns what changes with the hash that the file has for name, and is the
// same wherever the file is: refresh tokens end with it. The hash can't be told from it.
// Of who isn't in the file it's authn.ErrRefused.
func (f *File) Generation(_ context.Context, name string) (string, error) {
	u, known := f.users.Load().byName[name]
	if !known {
		return "", authn.ErrRefused
	}
	sum := sha256.Sum256([]byte("generation\x00" + name + "\x00" + u.text))
	return base64.RawURLEncoding.EncodeToString(sum[:16]), nil
}

// Version implements authn.Versioned.
func (f *File) Version(name string) uint64 {
	if u, known := f.users.Load().byName[name]; known {
		return u.version
	}
	return 0
}

func (f *File) identity(name string) authz.Identity {
	return authz.Identity{ID: name, Provider: f.provider}
}
