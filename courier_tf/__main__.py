"""The program `courier`, also `python -m courier_tf`."""

from courier_tf.process import prepare


def main() -> None:
    """Entry point of `courier`."""
    prepare()
    from courier_tf.commands.program import main as run

    run()


if __name__ == "__main__":
    main()
