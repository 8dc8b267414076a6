// Package command is 'caddy oci-registry': what its sub-commands are told, what they do
// and what they print, but for serve. It doesn't know Caddy. What takes Caddy, or the
// modules that a configuration names, is handed in as a Caddy by who registers the
// commands.
package command

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/storage"
)

// Caddy is what the commands need of the Caddy that they're a part of. All of it is
// required, by the commands that say so.
type Caddy struct {
	// Load reads a configuration file by an adapter, or by the one that the file's name
	// says if that's empty, and prepares what it describes: nothing of it is opened or
	// started. The caller closes it. For explain, state, and stores called registry:NAME.
	Load func(file, adapter string) (Configuration, error)

	// Ask sends a request without a body to the admin endpoint at an address, or where
	// Caddy's usually is if that's empty. What isn't answered with success is an error.
	// The caller closes the answer's body. For gc, scrub, restore and tokens.
	Ask func(address, method, path string) (*http.Response, error)

	// Schemes open the stores that are called by a URL, by its scheme.
	Schemes map[string]Opener
}

// Opener opens the store at a URL, which has no user: for reading only, unless it's to be
// written to. The caller closes it.
type Opener func(ctx context.Context, u *url.URL, write bool) (storage.Store, error)

// Configuration is what a configuration says of registries, none of which runs. In errors
// it says what registries there are, if there's none of a name.
type Configuration interface {
	// Open opens what a registry keeps, with its paths, and says which folders that is
	// in: for reading only, unless it's to be written to, which one that's read_only
	// refuses. It's closed with the Configuration, and not by itself.
	Open(ctx context.Context, registry string, write bool) (s storage.Store, folders []string, err error)

	// Explain says whether something would be granted by a registry, and why. An empty
	// name is that of the only one.
	Explain(ctx context.Context, registry string, s authz.Supposed) (authz.Explanation, error)

	// MoveState moves what a registry keeps for itself to its home called to, which is
	// caddy or store, and calls moved with each key. An empty name is that of the only
	// one.
	MoveState(ctx context.Context, registry, to string, moved func(key string)) error

	// Close closes what was opened. It's called once.
	Close() error
}

// All returns the sub-commands, but for serve.
func All(c Caddy) []*cobra.Command {
	return []*cobra.Command{
		newList(), newRemove(),
		newGC(c), newScrub(c), newRestore(c), newTokens(c),
		newCopy(c), newExport(c), newImport(c), newCheck(c),
		newExplain(c), newState(c),
	}
}

func requireFlags(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there's no such flag
		}
	}
}

// untilInterrupted is ctx until somebody wants the process to stop.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
