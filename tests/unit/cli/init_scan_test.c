#include "cli/init_scan.h"

#include "base/mem.h"
#include "tap.h"

typedef struct expect {
    const char *text;
    const char *data; /* joined by '|' */
    const char *model, *unserved, *label;
    bool knows_us;
} expect;

static const expect cases[] = {
    {"", "", "", "", "", false},
    {"d = np.load('digits.npz')\nx, y = d['x'], d['y']\n", "digits.npz", "", "", "y", false},
    {"x = np.load('data/x.npy'); t = np.load(\"data/t.npy\")", "data", "", "", "", false},
    {"x = np.load('x.npy')", ".", "", "", "", false},
    {"x = np.load(os.path.join('data', 'train.npz'))\nz = np.load(Path('data') / \"test.npz\")",
     "data/train.npz|data/test.npz", "", "", "", false},
    {"# np.load('old.npz')\n\"\"\"np.load('doc.npz')\"\"\"\nnp.load('new.npz')", "new.npz", "", "",
     "", false},
    {"np.savez('cache.npz', x=x)\nnp.save('x.npy', x)", "", "", "", "", false},
    {"PATH = 'a.npz'\nnp.load(PATH)\nnp.load(f'{PATH}/b.npz')\nnp.load('*.npz')", "a.npz", "", "",
     "", false},
    {"np.load('a.npz'); np.load('a.npz')", "a.npz", "", "", "", false},
    {"model.save('out/model')", "", "out/model", "", "", false},
    {"tf.saved_model.save(model, 'out/model', signatures='x')", "", "out/model", "", "", false},
    {"model.export(os.path.join('out', 'model'))", "", "out/model", "", "", false},
    {"torch.onnx.export(net, (x,), 'net.onnx', input_names=['x'])", "", "net.onnx", "", "", false},
    {"onx = to_onnx(model, x[:1])\nwith open('m.onnx', 'wb') as f:\n    "
     "f.write(onx.SerializeToString())",
     "", "m.onnx", "", "", false},
    {"p.add_argument('--out', default='out/m.onnx')", "", "out/m.onnx", "", "", false},
    {"s = onnxruntime.InferenceSession('old.onnx')\nm = onnx.load('older.onnx')", "", "", "", "",
     false},
    {"torch.save(net, 'net.pt')", "", "", "net.pt", "", false},
    {"model.save('m.keras')\nmodel.export('m')", "", "m", "m.keras", "", false},
    {"plt.savefig('a.png')\nfig.save('b.png')\njson.dump(x, open('m.json', 'w'))", "", "", "", "",
     false},
    {"root = os.environ['OVERTAKE_DATA']\nx = np.load(root + '/base/x.npy')", "/base", "", "", "",
     true},
    {"d = load('a.npz')\ny = d[\"labels\"]\nz = d['y']", "a.npz", "", "", "labels", false},
    {"print('y')", "", "", "", "", false},
    {"x = 'never closed\ny = np.load('a.npz')", "a.npz", "", "", "", false},
    {"a = '''never closed np.load('a.npz')", "", "", "", "", false},
    {"'\\", "", "", "", "", false},
};

static void test_cases(void)
{
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        const expect *e = &cases[i];
        char data[OT_INIT_DATA_MAX * OT_INIT_PATH_MAX] = "";
        ot_init_scan s;
        ot_init_scan_text(e->text, strlen(e->text), &s);
        for (size_t k = 0; k < s.n_data; k++) {
            strcat(strcat(data, k > 0 ? "|" : ""), s.data[k]);
        }
        is_str(data, e->data, "%d: data", (int)i);
        is_str(s.model, e->model, "%d: model", (int)i);
        is_str(s.unserved, e->unserved, "%d: not served", (int)i);
        is_str(s.label, e->label, "%d: label", (int)i);
        ok(s.knows_us == e->knows_us, "%d: $OVERTAKE_DATA", (int)i);
    }
}

/* Deeper and longer than what is kept. */
static void test_limits(void)
{
    char deep[4000] = "", many[4000] = "", part[64];
    ot_init_scan s;
    for (int i = 0; i < 1000; i++) {
        strcat(deep, "f(");
    }
    strcat(deep, "'a.npz'");
    for (int i = 0; i < 1000; i++) {
        strcat(deep, ")");
    }
    ot_init_scan_text(deep, strlen(deep), &s);
    ok(s.n_data == 1, "a thousand brackets");
    for (int i = 0; i < 100; i++) {
        snprintf(part, sizeof part, "load('%d.npz')\n", i);
        strcat(many, part);
    }
    ot_init_scan_text(many, strlen(many), &s);
    is_int(s.n_data, OT_INIT_DATA_MAX, "as many files as are kept");
    memset(deep, 'a', sizeof deep);
    deep[0] = '\'';
    memcpy(deep + 3990, ".npz'", 6);
    ot_init_scan_text(deep, strlen(deep), &s);
    is_int(s.n_data, 0, "a path that is too long is none");
}

int main(void)
{
    test_cases();
    test_limits();
    return tap_done();
}
