package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clusterID is any id of the right form: no other broker ever joins.
const clusterID = "cHJ0d2F0Y2gtdGVzdC1hYQ"

// heap is the most that one broker's Java heap takes.
const heap = "512m"

func brokerDir(dir string, id int) string { return filepath.Join(dir, "broker-"+strconv.Itoa(id)) }
func dataDir(dir string) string           { return filepath.Join(dir, "data") }

// fetch has deploy/kafka/kafka bring Apache Kafka here and returns the folder of its jars.
func fetch(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", errors.New("there is no java to run Kafka with: install Java 17 or later")
	}
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		here := filepath.Join(root, "deploy", "kafka")
		if _, err := os.Stat(filepath.Join(here, "kafka")); err == nil {
			out, err := exec.CommandContext(ctx, filepath.Join(here, "kafka"), "fetch").CombinedOutput()
			if err != nil {
				return "", fmt.Errorf("deploy/kafka/kafka fetch: %w: %s", err, out)
			}
			return filepath.Join(here, "target", "lib"), nil
		}
		if root == filepath.Dir(root) {
			return "", errors.New("there is no deploy/kafka here or above: run inside the repository")
		}
		root = filepath.Dir(root)
	}
}

// process is one broker: broker and controller in one Java process.
type process struct {
	id   int
	addr string // where clients reach it without a proxy
	dir  string
	libs string
	log  *slog.Logger

	properties string // its text

	mu     sync.Mutex
	cmd    *exec.Cmd
	gone   chan struct{} // closed when cmd has ended; nil: never started
	paused bool
	asked  bool // to end: it did not die by itself
}

func newProcess(dir, libs string, id int, l *layout, set []string, log *slog.Logger) *process {
	dir = brokerDir(dir, id)
	return &process{
		id:         id,
		addr:       l.direct[id],
		dir:        dir,
		libs:       libs,
		log:        log.With("broker", id),
		properties: properties(dir, id, l) + "\n" + strings.Join(set, "\n") + "\n",
	}
}

func (p *process) propertiesFile() string { return filepath.Join(p.dir, "server.properties") }
func (p *process) logFile() string        { return filepath.Join(p.dir, "broker.log") }

// java is the command that runs a class of Kafka's. It appends to the broker's log, and dies
// with this process, however that ends. Its process group is its own, so that a Ctrl-C of the
// terminal reaches us and not the brokers.
func (p *process) java(args ...string) (*exec.Cmd, *os.File, error) {
	out, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("java", append([]string{
		"-cp", filepath.Join(p.libs, "*"), "-Xmx" + heap,
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, out, nil
}

// format writes the properties and makes the data folder a broker's.
func (p *process) format(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(p.propertiesFile(), []byte(p.properties), 0o644); err != nil {
		return err
	}
	cmd, out, err := p.java("kafka.tools.StorageTool", "format", "-t", clusterID, "-c", p.propertiesFile())
	if err != nil {
		return err
	}
	defer out.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("formatting %s (see %s): %w", dataDir(p.dir), p.logFile(), err)
	}
	return nil
}

// start runs the broker; it does not wait until it serves.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs() {
		return fmt.Errorf("starting broker %d: it runs", p.id)
	}
	cmd, out, err := p.java("kafka.Kafka", p.propertiesFile())
	if err != nil {
		return fmt.Errorf("starting broker %d: %w", p.id, err)
	}
	defer out.Close() // Java has its own.
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting broker %d: %w", p.id, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone, p.paused, p.asked = cmd, gone, false, false
	p.log.Info("broker started", "process", cmd.Process.Pid)
	go func() {
		err := cmd.Wait()
		close(gone)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd == cmd && !p.asked {
			p.log.Error("broker ended by itself", "error", err, "log", p.logFile())
		}
	}()
	return nil
}

// runs reports whether the process is there. The lock is held.
func (p *process) runs() bool {
	if p.gone == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// signal sends the signal to a broker that runs, and returns the channel that is closed when
// it has ended. Then may note what became of it, under the lock.
func (p *process) signal(s syscall.Signal, doing string, then func() error) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runs() {
		return nil, fmt.Errorf("%s broker %d: it does not run", doing, p.id)
	}
	if err := then(); err != nil {
		return nil, fmt.Errorf("%s broker %d: %w", doing, p.id, err)
	}
	p.log.Info("broker signalled", "signal", s.String())
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, fmt.Errorf("%s broker %d: %w", doing, p.id, err)
	}
	return p.gone, nil
}

func (p *process) kill() error {
	gone, err := p.signal(syscall.SIGKILL, "killing", func() error { p.asked = true; return nil })
	if err != nil {
		return err
	}
	<-gone
	return nil
}

func (p *process) stop(ctx context.Context) error {
	gone, err := p.signal(syscall.SIGTERM, "stopping", func() error {
		if p.paused {
			return errors.New("it is paused and would not hear of it")
		}
		p.asked = true
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping broker %d: %w", p.id, context.Cause(ctx))
	}
}

func (p *process) pause() error {
	_, err := p.signal(syscall.SIGSTOP, "pausing", func() error { p.paused = true; return nil })
	return err
}

func (p *process) resume() error {
	_, err := p.signal(syscall.SIGCONT, "resuming", func() error { p.paused = false; return nil })
	return err
}

// end kills the broker if it runs.
func (p *process) end() { _ = p.kill() }

// awaitServing returns when the broker answers clients and knows of at least so many brokers
// that serve, itself among them.
func (p *process) awaitServing(ctx context.Context, brokers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	go func() {
		select {
		case <-gone:
			cancel(fmt.Errorf("it ended, see %s", p.logFile()))
		case <-ctx.Done():
		}
	}()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addr), kgo.DialTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	return poll(ctx, fmt.Sprintf("waiting until broker %d serves", p.id), func(ctx context.Context) error {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{}
		// The seed and nobody else: another broker would answer for it.
		resp, err := cl.SeedBrokers()[0].Request(ctx, req)
		if err != nil {
			return err
		}
		seen, itself := 0, false
		for _, b := range resp.(*kmsg.MetadataResponse).Brokers {
			seen++
			itself = itself || b.NodeID == int32(p.id)
		}
		if seen < brokers || !itself {
			return fmt.Errorf("it knows of %d brokers (itself: %t)", seen, itself)
		}
		return nil
	})
}
