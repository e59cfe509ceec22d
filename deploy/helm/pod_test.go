package helm_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// manifest is one of the chart's objects, as far as a kubelet has to know it.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name                string
		Labels, Annotations map[string]string
	}
	Data map[string]string
	Spec yaml.Node
	text string // the whole
}

// podSpec is what a kubelet reads of a pod.
type podSpec struct {
	ServiceAccountName            string `yaml:"serviceAccountName"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      uint32                `yaml:"runAsUser"`
		RunAsGroup     uint32                `yaml:"runAsGroup"`
		FSGroup        uint32                `yaml:"fsGroup"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Affinity   map[string]any
	Containers []container
	Volumes    []volume
}

type container struct {
	Name           string
	Image          string
	Args           []string
	Env            []envVar
	EnvFrom        []envSource `yaml:"envFrom"`
	Ports          []port
	StartupProbe   probe `yaml:"startupProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Resources      struct {
		Requests, Limits map[string]string
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type envVar struct {
	Name, Value string
	ValueFrom   struct {
		FieldRef struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
		ResourceFieldRef struct{ Resource string } `yaml:"resourceFieldRef"`
	} `yaml:"valueFrom"`
}

type envSource struct {
	Prefix       string
	SecretRef    struct{ Name string } `yaml:"secretRef"`
	ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
}

type port struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
}

type probe struct {
	HTTPGet          struct{ Path, Port string } `yaml:"httpGet"`
	PeriodSeconds    int                         `yaml:"periodSeconds"`
	TimeoutSeconds   int                         `yaml:"timeoutSeconds"`
	FailureThreshold int                         `yaml:"failureThreshold"`
}

type volume struct {
	Name      string
	EmptyDir  *yaml.Node            `yaml:"emptyDir"`
	ConfigMap struct{ Name string } `yaml:"configMap"`
	Projected struct {
		DefaultMode os.FileMode `yaml:"defaultMode"`
		Sources     []struct {
			Secret struct {
				Name  string
				Items []struct{ Key, Path string }
			}
		}
	}
}

// objects are what a pod may refer to: files by ConfigMap's or Secret's name.
type objects struct{ configMaps, secrets map[string]map[string]string }

// pod is a container of the chart as a kubelet would run it, but for its network, which is this machine's: the binary sees
// a root of its own with nothing but itself and its mounts, and is nobody there.
type pod struct {
	t    *testing.T
	name string
	spec podSpec
	root string
	env  []string // of envFrom

	cmd    *exec.Cmd
	output *lockedBuffer
	ended  chan error
}

// built is the folder of the binary, where there is one.
var built string

// binary builds prtwatch once.
var binary = sync.OnceValues(func() (_ string, err error) {
	if built, err = os.MkdirTemp("", "prtwatch-chart"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", built+"/prtwatch", "github.com/prtwatch/prtwatch/cmd/prtwatch").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building prtwatch: %w: %s", err, out)
	}
	return built + "/prtwatch", nil
})

// newPod lays out a pod's root: the image, then its mounts.
func newPod(t *testing.T, name string, spec podSpec, have objects) *pod {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a process a root of its own")
	}
	p := &pod{t: t, name: name, spec: spec, root: t.TempDir()}
	if err := os.Chmod(p.root, 0o755); err != nil {
		t.Fatal(err)
	}
	p.image()
	for _, source := range spec.Containers[0].EnvFrom {
		from, ok := have.secrets[source.SecretRef.Name]
		if source.SecretRef.Name == "" {
			from, ok = have.configMaps[source.ConfigMapRef.Name]
		}
		if !ok {
			t.Fatalf("envFrom: there is no %+v", source)
		}
		for key, value := range from {
			p.env = append(p.env, source.Prefix+key+"="+value)
		}
	}
	for _, mount := range spec.Containers[0].VolumeMounts {
		if mount.SubPath != "" {
			t.Errorf("%s is mounted by subPath, which is never renewed", mount.MountPath)
		}
		p.mount(mount.Name, mount.MountPath, have)
	}
	return p
}

// image puts the binary into the root, with the libraries that it needs where it is not static, as
// that of the Dockerfile is.
func (p *pod) image() {
	p.t.Helper()
	built, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	p.copy(built, "/prtwatch")
	libraries, err := exec.Command("ldd", built).Output()
	if err != nil {
		return // static
	}
	for field := range strings.FieldsSeq(string(libraries)) {
		if strings.HasPrefix(field, "/") {
			p.copy(field, field)
		}
	}
}

func (p *pod) copy(from, to string) {
	p.t.Helper()
	in, err := os.Open(from)
	if err != nil {
		p.t.Fatal(err)
	}
	defer in.Close()
	p.mkdir(path.Dir(to))
	out, err := os.OpenFile(filepath.Join(p.root, to), os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pod) mkdir(dir string) string {
	p.t.Helper()
	dir = filepath.Join(p.root, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// mount lays a volume out as the kubelet does.
func (p *pod) mount(name, at string, have objects) {
	p.t.Helper()
	i := slices.IndexFunc(p.spec.Volumes, func(v volume) bool { return v.Name == name })
	if i < 0 && name == "state" || i >= 0 && p.spec.Volumes[i].EmptyDir != nil { // a claim of the template
		dir := p.mkdir(at)
		if err := os.Chown(dir, 0, int(p.spec.SecurityContext.FSGroup)); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o775|os.ModeSetgid); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	if i < 0 {
		p.t.Fatalf("%s is mounted, and is no volume", name)
	}
	v := p.spec.Volumes[i]
	files, mode := have.configMaps[v.ConfigMap.Name], os.FileMode(0o644)
	if v.ConfigMap.Name == "" {
		files, mode = map[string]string{}, v.Projected.DefaultMode
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				text, ok := have.secrets[source.Secret.Name][item.Key]
				if !ok {
					p.t.Fatalf("there is no key %s in Secret %s", item.Key, source.Secret.Name)
				}
				files[item.Path] = text
			}
		}
	}
	if files == nil {
		p.t.Fatalf("volume %s: there is no ConfigMap %q", name, v.ConfigMap.Name)
	}
	p.write(at, files, mode)
}

// write lays files out as the kubelet does, and renews them so: in a folder that a link points to, which is replaced.
func (p *pod) write(at string, files map[string]string, mode os.FileMode) {
	p.t.Helper()
	dir := p.mkdir(at)
	data := fmt.Sprintf("..%d", time.Now().UnixNano())
	p.mkdir(path.Join(at, data))
	for name, text := range files {
		file := filepath.Join(dir, data, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Chown(file, 0, int(p.spec.SecurityContext.FSGroup)); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			p.t.Fatal(err)
		}
	}
	if err := os.Symlink(data, filepath.Join(dir, "..data_tmp")); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		p.t.Fatal(err)
	}
}

// command is the container's process, with these arguments instead of its own where there are some.
func (p *pod) command(args ...string) *exec.Cmd {
	c := p.spec.Containers[0]
	if len(args) == 0 {
		args = c.Args
	}
	cmd := &exec.Cmd{Path: "/prtwatch", Args: append([]string{"/prtwatch"}, args...), Dir: "/", Env: append([]string{"HOSTNAME=" + p.name}, p.env...)}
	for _, v := range c.Env {
		value := v.Value
		switch {
		case v.ValueFrom.FieldRef.FieldPath == "metadata.name":
			value = p.name
		case v.ValueFrom.ResourceFieldRef.Resource != "":
			value = "1"
		}
		cmd.Env = append(cmd.Env, v.Name+"="+value)
	}
	as := &syscall.Credential{Uid: p.spec.SecurityContext.RunAsUser, Gid: p.spec.SecurityContext.RunAsGroup}
	if group := p.spec.SecurityContext.FSGroup; group != 0 {
		as.Groups = []uint32{group}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Credential: as}
	return cmd
}

// run lets the container's process end, and returns what it wrote.
func (p *pod) run(args ...string) (string, error) {
	out, err := p.command(args...).CombinedOutput()
	return string(out), err
}

// start starts the container's process.
func (p *pod) start() {
	p.t.Helper()
	p.cmd, p.output, p.ended = p.command(), new(lockedBuffer), make(chan error, 1)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if p.t.Failed() {
			p.t.Logf("%s wrote:\n%s", p.name, p.output)
		}
	})
}

// stop ends it as the kubelet does, and returns how long that took.
func (p *pod) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("%s: after SIGTERM: %v", p.name, err)
		}
	case <-time.After(time.Duration(p.spec.TerminationGracePeriodSeconds) * time.Second):
		p.t.Fatalf("%s has not ended within its %d s", p.name, p.spec.TerminationGracePeriodSeconds)
	}
	return time.Since(began)
}

// become asks a probe as the kubelet does, until it succeeds. A startup probe has its failureThreshold; readiness has as long
// as the test gives it.
func (p *pod) become(what string, pr probe, tries int) {
	p.t.Helper()
	client := http.Client{Timeout: time.Duration(pr.TimeoutSeconds) * time.Second}
	period := time.NewTicker(time.Duration(pr.PeriodSeconds) * time.Second)
	defer period.Stop()
	var last string
	for range tries {
		last = p.ask(&client, pr.HTTPGet.Path, pr.HTTPGet.Port)
		if last == "" {
			return
		}
		select {
		case <-period.C:
		case err := <-p.ended:
			p.t.Fatalf("%s ended before it was %s: %v", p.name, what, err)
		}
	}
	p.t.Fatalf("%s is not %s: %s", p.name, what, last)
}

// ask returns nothing where the answer is 200, else what it was.
func (p *pod) ask(client *http.Client, path, port string) string {
	response, err := client.Get(p.url(path, port))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Sprint(response.Status, " ", string(body), err)
	}
	return ""
}

func (p *pod) url(path, name string) string {
	p.t.Helper()
	c := p.spec.Containers[0]
	i := slices.IndexFunc(c.Ports, func(have port) bool { return have.Name == name })
	if i < 0 {
		p.t.Fatalf("the container has no port %s", name)
	}
	return fmt.Sprintf("http://127.0.0.1:%d%s", c.Ports[i].ContainerPort, path)
}

// metrics returns the lines of /metrics that begin with a name.
func (p *pod) metrics(name string) []string {
	p.t.Helper()
	response, err := http.Get(p.url("/metrics", "metrics"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// lockedBuffer is written by a process while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
