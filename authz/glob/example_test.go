package glob_test

import (
	"fmt"
	"log"

	"github.com/caddy-oci/oci-registry/authz/glob"
)

func parse(patterns ...string) []*glob.Glob {
	var globs []*glob.Glob
	for _, p := range patterns {
		g, err := glob.Parse(p)
		if err != nil {
			log.Fatalf("%s %v", p, err)
		}
		globs = append(globs, g)
	}
	return globs
}

func ExampleGrammar_Check() {
	for _, pattern := range []string{"team/**", "/team/", "a{b"} {
		fmt.Println(glob.Repositories.Check(pattern))
	}
	// Output:
	// the pattern "/team/" matches nothing that a repository can be called write "team/**"
	// the pattern "a{b" has a "{" without a "}" a name is components of lower-case letters and digits, with ".", "_", "__" or "-" between them, and "/" between components
}

func ExampleSet_Ties() {
	for t := range glob.NewSet(glob.Repositories, parse("a/*", "*/b", "a/c*", "*/cd")).Ties() {
		fmt.Println(t.A, t.B, t.Name)
	}
	// Output:
	// */cd a/c* a/cd
	// */b a/* a/b
}

func ExampleSet_Covers() {
	by, all := parse("[a-z]*", "[0-9]*"), parse("*")[0]
	fmt.Println(glob.NewSet(glob.Repositories, nil).Covers(by, all))
	fmt.Println(glob.NewSet(glob.Repositories, nil).Covers(by[:1], all))
	fmt.Println(glob.NewSet(glob.Tags, nil).Covers(by, all)) // they may be in upper case
	// Output:
	// true
	// false
	// false
}

func ExampleIndex_Longest() {
	x := glob.NewIndex(parse("**", "team/*", "team/**", "**/app"))
	fmt.Println(x.Longest("team/app"), x.Longest("org/app"), x.Longest("org"))
	fmt.Println(new(glob.Index).Longest("org"))
	// Output:
	// 2 3 0
	// -1
}
