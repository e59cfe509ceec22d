// Package house holds the house together: a test of which package may know which, and of
// what each says about itself. It has no code of its own.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/prtwatch/prtwatch/"

// rules are the arrows of the house (docs/design.md). A rule is for the package and for
// those below it; all that match hold. Tests may import what they like.
var rules = []struct {
	of    string   // the package, from the module's root
	may   []string // of ours; one that ends in / is all below it
	never []string // of others, by prefix
	why   string
}{
	{
		of:    "detector",
		never: []string{"github.com/twmb/", "github.com/cockroachdb/", "github.com/prometheus/", "os", "io/fs", "net/http", "log"},
		why:   "a verdict depends on the sign-in and the history alone, so that run, replay and explain give the same",
	},
	{
		of:    "state",
		never: []string{"github.com/twmb/", "github.com/prometheus/"},
		why:   "what a profile keeps is not to depend on what a rule or a broker is; it is tested without either",
	},
	{
		of:    "stream/entra",
		may:   []string{"detector"},
		never: []string{"github.com/twmb/", "github.com/cockroachdb/"},
		why:   "replay decodes files with it, without Kafka",
	},
	{
		of:  "stream/signins",
		may: []string{"detector"},
		why: "the records of a topic are read by later versions and by others; no client's or state's type may leak into them",
	},
	{
		of:    "stream/kafka",
		never: []string{"github.com/cockroachdb/"},
		why:   "clients, security and topics are the same whatever the records mean",
	},
	{
		of:    "stream/split",
		may:   []string{"detector", "internal/fault", "stream/entra", "stream/kafka", "stream/signins"},
		never: []string{"github.com/cockroachdb/"},
		why:   "it runs alone (--only split), where there is no state",
	},
	{
		of:    "stream/detect",
		may:   []string{"detector", "internal/fault", "state", "stream/kafka", "stream/signins"},
		never: []string{"github.com/cockroachdb/"},
		why:   "it judges what is in prtwatch.signins, whatever export that came from; Pebble is state's own affair",
	},
	{
		of:    "stream/redrive",
		may:   []string{"detector", "stream/entra", "stream/kafka", "stream/signins"},
		never: []string{"github.com/cockroachdb/"},
		why:   "it writes what the splitter would have written, and the detecting stage alone judges it",
	},
	{
		of:  "internal/oracle",
		why: "it checks the detector, and an error that they share would be found by neither",
	},
	{
		of:  "internal/tenant",
		why: "made sign-ins are bytes as Azure writes them; made with our types they could only show what we know",
	},
	{
		of:    "internal/fault",
		never: []string{"github.com/"},
		why:   "the stages call it at each step; it may be no more than a name to them",
	},
	{
		of:    "internal/broker",
		never: []string{"testing"},
		why:   "it lends a Kafka to the demo, which is part of the program; what tests want besides is in brokertest",
	},
	{
		of:  "internal/brokertest",
		may: []string{"internal/broker"},
		why: "it lends a Kafka to tests, stream/kafka's among them",
	},
	{
		of:  "cmd/verify",
		may: []string{"internal/oracle"},
		why: "it judges what the pipeline wrote; what it shared with the pipeline it could not find wrong",
	},
	{
		of:  "deploy",
		why: "what is deployed around prtwatch is made without it; deploy/grafana is a module of its own",
	},
	{
		of:  "cmd",
		may: []string{"cmd/", "detector", "state", "stream/", "internal/"},
		why: "a command wires the parts together, and is imported by none of them",
	},
}

// clockless are the packages that are told what time it is.
var clockless = []string{"detector", "stream/entra", "stream/signins", "internal/oracle"}

// house is the parsed files of each package, from the module's root, without tests.
type house map[string][]*ast.File

func parse(t *testing.T) house {
	t.Helper()
	packages := make(house)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		packages[dir] = append(packages[dir], file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 5 {
		t.Fatalf("found only %d packages: does the test run at the module's root?", len(packages))
	}
	return packages
}

func imports(file *ast.File) []string {
	var paths []string
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, path)
	}
	return paths
}

// under reports whether the package is dir or lies below it.
func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func TestPackagesKnowOnlyWhatTheyMay(t *testing.T) {
	packages := parse(t)
	for _, rule := range rules {
		found := false
		for pkg, files := range packages {
			if !under(pkg, rule.of) {
				continue
			}
			found = true
			for _, file := range files {
				for _, path := range imports(file) {
					if !allowed(path, rule.of, rule.may, rule.never) {
						t.Errorf("%s imports %s, which it must not: %s", pkg, path, rule.why)
					}
				}
			}
		}
		if !found {
			t.Errorf("there is a rule for %s, and no such package", rule.of)
		}
	}
	for pkg := range packages {
		ruled := false
		for _, rule := range rules {
			ruled = ruled || under(pkg, rule.of)
		}
		if !ruled {
			t.Errorf("no rule says what package %s may import", pkg)
		}
	}
}

func allowed(path, of string, may, never []string) bool {
	ours, isOurs := strings.CutPrefix(path, module)
	if !isOurs {
		for _, prefix := range never {
			if path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/") {
				return false
			}
		}
		return true
	}
	if under(ours, of) {
		return true
	}
	for _, m := range may {
		if ours == m || strings.HasSuffix(m, "/") && strings.HasPrefix(ours, m) {
			return true
		}
	}
	return false
}

func TestEveryPackageHasExactlyOneComment(t *testing.T) {
	for pkg, files := range parse(t) {
		var comments []string
		for _, file := range files {
			if file.Doc != nil {
				comments = append(comments, file.Doc.Text())
			}
		}
		if len(comments) != 1 {
			t.Errorf("package %s has %d comments, not one that says what it owns, what it must never know and where to start reading", pkg, len(comments))
			continue
		}
		if name := files[0].Name.Name; name != "main" && !strings.HasPrefix(comments[0], "Package "+name+" ") {
			t.Errorf("the comment of package %s begins with %.30q, not with its name", pkg, comments[0])
		}
	}
}

func TestPackagesThatAreToldTheTimeDoNotAsk(t *testing.T) {
	packages := parse(t)
	for _, pkg := range clockless {
		for _, file := range packages[pkg] {
			ast.Inspect(file, func(n ast.Node) bool {
				selector, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := selector.X.(*ast.Ident); ok && x.Name == "time" {
					switch selector.Sel.Name {
					case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker":
						t.Errorf("%s calls time.%s: what it says must not depend on when it is asked", pkg, selector.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

var (
	testNamed    = regexp.MustCompile(`\bTest[A-Z]\w+`)
	testDeclared = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

func TestTestsThatDocumentsNameAreThere(t *testing.T) {
	named, declared := make(map[string]string), make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		document, tests := strings.HasSuffix(path, ".md"), strings.HasSuffix(path, "_test.go")
		if err != nil || d.IsDir() || !document && !tests {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if tests {
			for _, found := range testDeclared.FindAllSubmatch(text, -1) {
				declared[string(found[1])] = true
			}
			return nil
		}
		for _, name := range testNamed.FindAllString(string(text), -1) {
			named[name] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range named {
		if !declared[name] {
			t.Errorf("%s names %s, which is no test", path, name)
		}
	}
	if len(named) == 0 {
		t.Error("no document names a test: does the test run at the module's root?")
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	linked  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// anchors are what the headings of a document are linked by, as GitHub makes them.
func anchors(document string) map[string]bool {
	found := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(document, ""), -1) {
		found[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return found
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	links := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, link := range linked.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(link[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			there, err := os.ReadFile(target)
			if _, gone := os.Stat(target); gone != nil {
				t.Errorf("%s: %s leads nowhere", path, link[1])
			} else if anchor != "" && (err != nil || !anchors(string(there))[anchor]) {
				t.Errorf("%s: %s leads to no heading", path, link[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links == 0 {
		t.Error("no document has a link: does the test run at the module's root?")
	}
}
