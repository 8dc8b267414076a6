package command

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

func newScrub(c Caddy) *cobra.Command {
	r := newRunning(c)
	var dry bool
	cmd := &cobra.Command{
		Use:   "scrub [--dry-run] [--name <registry>] [--path <prefix>] [--address <admin>]",
		Short: "Reads all that a running registry keeps, and compares it with its digests",
		Long: `Reads all that a running registry keeps, at its rate, compares it with its digests,
and waits until that's done; an interrupt ends the waiting, not the reading. It
asks Caddy's admin endpoint.

What is damaged is repaired if the registry has the bytes elsewhere, and else put
into quarantine: it's answered 404, and the next push of it heals. --dry-run
changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return scrubbing.round(cmd.Context(), r, dry, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "Change nothing, and list what is wrong")
	r.jobFlags(cmd)
	return cmd
}

// scrubbing is the job.
var scrubbing = job[scrub.Finding]{adminapi.Scrub, func(f scrub.Finding, _ bool) []string {
	return []string{string(f.Kind), f.Repository, f.Name, string(f.Fault), remedy(f), leading(f)}
}, "nothing to check"}

// remedy says what was done about something.
func remedy(f scrub.Finding) string {
	switch {
	case f.Problem != "":
		return f.Problem
	case f.From != "":
		return "repaired from " + f.From
	}
	return cmp.Or(string(f.Done), "-")
}

// leading says which tags lead to something.
func leading(f scrub.Finding) string {
	tags := strings.Join(f.Tags, ",")
	if f.MoreTags > 0 {
		tags += fmt.Sprintf(" and %d more", f.MoreTags)
	}
	return cmp.Or(tags, "-")
}
