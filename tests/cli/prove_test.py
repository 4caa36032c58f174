"""`driftwood prove --quick`: the fixed fields, and that what it claims holds. The device is the first argument."""
import os
import sys

import driftwood

DEVICE = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "cpu"


class Prove(driftwood.Case):
    def test_one_memory_for_host_device_and_guest(self):
        report = self.succeed("prove", "--quick", "--device", DEVICE, "--json").json()
        self.assertEqual(report["device"], DEVICE)
        self.assertTrue(report["holds"])
        self.assertEqual([size["bytes"] for size in report["sizes"]], [16 << 20, 256 << 20])
        for size in report["sizes"]:
            self.assertIs(size["identity"], True)
            self.assertTrue(size["seen_both_ways"])
            self.assertLessEqual(size["rss_added_wrap_bytes"], 32 << 10)
            self.assertGreater(size["rss_added_copy_bytes"], size["bytes"] * 0.9)
            self.assertGreater(size["wrap_us"], 0)
            self.assertGreater(size["copy_us"], 0)
        self.assertEqual([product["n"] for product in report["matmul"]], [128, 512])
        for product in report["matmul"]:
            self.assertEqual(product["wrong"], 0)
            self.assertEqual(product["checked"], product["n"] ** 2)
            self.assertEqual(product["copied_bytes"], 0)
            self.assertGreater(product["zero_copy_us"], 0)
            self.assertGreater(product["copy_us"], 0)


if __name__ == "__main__":
    if DEVICE != "cpu" and not os.environ.get("VK_DRIVER_FILES"):
        print("no software Vulkan driver on this machine")
        sys.exit(driftwood.SKIPPED)
    driftwood.main()
