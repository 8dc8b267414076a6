package command

import (
	"cmp"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

func newGC(c Caddy) *cobra.Command {
	r := newRunning(c)
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc [--dry-run] [--name <registry>] [--path <prefix>] [--address <admin>]",
		Short: "Collects the garbage of a running registry now",
		Long: `Collects the garbage of a running registry now, and waits until that's done; an
interrupt ends the waiting, not the collecting. It asks Caddy's admin endpoint.

What nothing needs goes once its grace has passed, so what was deleted just now is
marked by this round, and goes in a later one. --dry-run changes nothing: it lists
what would go, and when.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return collecting.round(cmd.Context(), r, dry, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "Change nothing, and list what would go")
	r.jobFlags(cmd)
	return cmd
}

// collecting is the job.
var collecting = job[gc.Finding]{adminapi.GC, func(f gc.Finding, dry bool) []string {
	return []string{string(f.Kind), cmp.Or(f.Repository, "-"), f.Name, humanize.IBytes(uint64(max(0, f.Size))), fate(f, dry)}
}, "nothing to remove"}

// fate says what becomes of something.
func fate(f gc.Finding, dry bool) string {
	switch {
	case f.Problem != "":
		return f.Problem
	case !dry:
		return "removed"
	case f.Due.After(time.Now()):
		return "goes in " + time.Until(f.Due).Round(time.Minute).String()
	}
	return "goes now"
}
